"""Base of pretraining methods: from a task and a network to a checkpoint to transfer from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from typing_extensions import override

from robust_transfer import networks
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.config import as_dict, config, expect
from robust_transfer.data import Task
from robust_transfer.defaults import DEFAULT_NETWORK, DEFAULT_THREAT
from robust_transfer.errors import ConfigError
from robust_transfer.monitor import Validation, validation_passes
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.presets import WithPresets
from robust_transfer.production import Produced, check_arguments, produce, refuse_hopeless, refuse_weights, without_test
from robust_transfer.registry import Registry
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.trained_on import trained_on
from robust_transfer.training import Objective, TrainingSettings, fit
from robust_transfer.training.settings import Schedule


@config
class Pretraining(TrainingSettings, WithPresets, ABC):
    """Base of the registered methods. Subclasses are configurations and implement :meth:`objective`."""

    epochs: float = 30.0
    learning_rate: float = 0.2
    schedule: Schedule = "one-cycle"
    nesterov: bool = True
    adversarial: ClassVar[bool] = True
    starts: ClassVar[bool] = False  # from a checkpoint, where the others start from random weights
    weighs: ClassVar[bool] = False  # whether it heeds images' weights; each class says so itself, it is not inherited

    @abstractmethod
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        """Objective that :func:`fit` minimises."""

    @classmethod
    @override
    def described(cls) -> str:
        return f"pretraining method {PRETRAINING.name_of(cls)!r}"

    @property
    def passes_per_image(self) -> float:
        """Forward-equivalent passes per training image: 3, and 2 for each attack step."""
        return 3.0

    def passes(self, task: Task) -> float:
        """Forecast of the forward-equivalent image passes of training on ``task``, validation included."""
        seen = self.epochs / int(getattr(self, "replays", 1))
        looks = seen * validation_passes(task.val, robust=self.adversarial or self.select == "robust")
        return self.images_seen(len(task.train)) * self.passes_per_image + looks

    def __call__(
        self,
        task: Task,
        *,
        network: str | NetworkSpec | None = None,
        threat: Threat | str = DEFAULT_THREAT,
        input_size: int | None = None,
        start: Checkpoint | None = None,
        run: Run | None = None,
    ) -> Checkpoint:
        """Train ``network`` (default: WRN-16-2) from scratch on ``task``; with ``run.out`` the checkpoint is saved there.

        ``input_size`` defaults to the images' own size (where all have one). A method that ``starts`` from a checkpoint
        takes ``start`` in place of both. Raises :class:`DivergedError` if training keeps failing; then nothing is saved.
        """
        check_arguments(run, task, **({"start": start} if start is not None else {}))
        run, threat = run or Run(), Threat.parse(threat)
        with run.at_work():
            run.check_out()
            if not len(task.train):
                refuse_hopeless(task)
            refuse_weights(type(self), task)
            self.check_start(start, network, input_size, run)
            spec = start.card.network if start is not None else self.network_spec(network, task, input_size)
            task = without_test(task).prepared(spec.preprocessing)
            if self.select != "last" and not len(task.val):
                raise ConfigError(f"select={self.select} needs a val split, and val is empty: use select=last")
            if self.select != "last" and not _judges(start, task):
                raise ConfigError(f"select={self.select} needs a start with the data's classes: use select=last")
            identity, seen = self._identity(spec, task, threat), trained_on(task)
            if start is not None:
                identity |= {"source": start.provenance, "class_names": start.card.class_names}
                seen = trained_on(task, start.trained_on, transferred=True)
            return produce(identity, task, run, lambda: self._prepare(spec, task, threat, run, start), seen)

    def check_start(
        self, start: Checkpoint | None, network: str | NetworkSpec | None, size: int | None, run: Run
    ) -> None:
        """Raise :class:`ConfigError` for a start that the method cannot use, or that contradicts other arguments."""
        name = PRETRAINING.name_of(type(self))
        if not self.starts:
            if start is not None:
                raise ConfigError(f"{name} trains from random weights: leave out the start (--from)")
            return
        if start is None:
            raise ConfigError(f"{name} starts from a checkpoint: name one with --from (in Python: start=)")
        if network is not None or size not in (None, start.input_size):
            raise ConfigError(f"{name} trains the network of its start: leave out --network and --input-size")
        if run.out is not None:
            start.refuse_unsavable()

    def _prepare(
        self, spec: NetworkSpec, task: Task, threat: Threat, run: Run, start: Checkpoint | None
    ) -> Callable[[], Produced]:
        torch.manual_seed(run.seed)
        classifier = start.classifier.copy() if start is not None else Classifier.build(spec)
        objective = self.objective(classifier, task, threat, run)  # which may refuse
        return lambda: self._train(objective, task, threat, run, start)

    def _train(self, objective: Objective, task: Task, threat: Threat, run: Run, start: Checkpoint | None) -> Produced:
        judges = _judges(start, task)
        fitted = fit(
            objective,
            task.train,
            self,
            run,
            validate=self._validation(task, threat, run) if judges else None,
            label=f"{PRETRAINING.name_of(type(self))} {objective.classifier.spec.name}",
            fingerprint={"threat": str(threat), **({"start": start.hash} if start is not None else {})},
        )
        best = f"best {task.measure}val {self.select} accuracy (epoch {fitted.best_epoch})"
        return Produced(
            classifier=fitted.classifier,
            criterion="last epoch" if self.select == "last" else best,
            metrics={**{f"val_{k}": v for k, v in fitted.figures.items()}, **self.told(task.train.size)},
            events=fitted.events,
            cost=fitted.cost(self.adversarial),
            judges=judges,
        )

    def _validation(self, task: Task, threat: Threat, run: Run) -> Validation | None:
        """Validation of clean accuracy; of robust accuracy too, unless training is natural and not selected by it."""
        robust = self.adversarial or self.select == "robust"
        return Validation(task.val, threat if robust else None, run) if len(task.val) else None

    def network_spec(self, network: str | NetworkSpec | None, task: Task, size: int | None) -> NetworkSpec:
        """Network that :meth:`__call__` builds for ``task``; refuses what does not fit."""
        if isinstance(network, NetworkSpec):
            if network.num_classes != task.num_classes:
                raise ConfigError(f"the network has {network.num_classes} classes, the data {task.num_classes}")
            if size not in (None, network.input_size):
                raise ConfigError(
                    f"the network reads {network.input_size}x{network.input_size} images, not {size}x{size}"
                )
            return network
        size = size if size is not None else task.train.size
        if size is None:
            raise ConfigError("the images have different sizes: say at which one to train, with --input-size")
        name = networks.canonical(DEFAULT_NETWORK if network is None else network)
        preprocessing = Preprocessing(size=size, normalisation=networks.normalisation(name))
        return NetworkSpec(name=name, num_classes=task.num_classes, preprocessing=preprocessing)

    def _identity(self, spec: NetworkSpec, task: Task, threat: Threat) -> dict[str, Any]:
        """Card's fields that identify the request; a finished run with the same ones is not trained again."""
        return {
            "method": f"pretrain:{PRETRAINING.name_of(type(self))}",
            "settings": as_dict(self),
            "network": spec,
            "threat": threat if self.adversarial else None,
            "data": task.record(),
        }


def _judges(start: Checkpoint | None, task: Task) -> bool:
    """True if the head's classes are the task's: of other ones there is nothing to validate."""
    return start is None or (not start.headless and start.card.class_names == task.class_names)


PRETRAINING: Registry[Pretraining] = Registry("pretraining method", group="robust_transfer.pretraining")


def pretrain(
    task: Task,
    method: Pretraining,
    *,
    network: str | NetworkSpec | None = None,
    threat: Threat | str = DEFAULT_THREAT,
    input_size: int | None = None,
    start: Checkpoint | None = None,
    run: Run | None = None,
) -> Checkpoint:
    """Train ``network`` from scratch on ``task`` by ``method``, or from ``start``; see :meth:`Pretraining.__call__`."""
    expect("method", method, Pretraining, hint="such as PGDAT()")
    return method(task, network=network, threat=threat, input_size=input_size, start=start, run=run)
