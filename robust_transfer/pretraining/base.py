"""The base of pretraining methods: a task and a network to a checkpoint that others can transfer from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import CIFAR_MEAN, CIFAR_STD, Classifier, NetworkSpec, Normalisation
from robust_transfer.config import as_dict, config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.registry import Registry
from robust_transfer.run import Run, command_line, environment
from robust_transfer.threat import Threat
from robust_transfer.training import FitResult, Objective, TrainingSettings, fit
from robust_transfer.training.settings import Schedule
from robust_transfer.validation import Validation, refuse_collapse


@config
class Pretraining(TrainingSettings, ABC):
    """Base of the registered methods. Subclasses are configurations and implement :meth:`objective`."""

    epochs: float = 30.0
    learning_rate: float = 0.2
    schedule: Schedule = "one-cycle"
    nesterov: bool = True
    adversarial: ClassVar[bool] = True

    @abstractmethod
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        """What :func:`fit` minimises."""

    def __call__(
        self,
        task: Task,
        *,
        network: str | NetworkSpec = "wrn_16_2",
        threat: Threat | str = "linf:8/255",
        input_size: int | None = None,
        run: Run | None = None,
    ) -> Checkpoint:
        """Train ``network`` from scratch on ``task``; with ``run.out`` the checkpoint is saved there.

        ``input_size`` defaults to the images' own size (where all have one). Raises :class:`DivergedError` if training
        keeps failing; then nothing is saved.
        """
        run, threat = run or Run(), Threat.parse(threat)
        out = run.prepare_out()
        size = input_size or task.train.size
        if size is None:
            raise ConfigError("the images have different sizes: say at which one to train, with --input-size")
        task = task.at_size(size)
        spec = network if isinstance(network, NetworkSpec) else self._spec(network, task, size)
        if spec.num_classes != task.num_classes:
            raise ConfigError(f"the network has {spec.num_classes} classes, the data {task.num_classes}")
        if self.select != "last" and not len(task.val):
            raise ConfigError(f"select={self.select} needs a val split, and there is none: use select=last")
        torch.manual_seed(run.seed)
        objective = self.objective(Classifier.build(spec), task, threat, run)
        probe = Validation(task.val, threat, run)
        fitted = fit(objective, task.train, self, run, validate=probe if len(task.val) else None, label=_label(self, spec))
        refuse_collapse(fitted.classifier, task.train, run)
        checkpoint = Checkpoint(fitted.classifier, self._card(fitted, spec, task, threat, run, probe))
        return checkpoint.save(out) if out is not None and _is_main() else checkpoint

    def _spec(self, network: str, task: Task, size: int) -> NetworkSpec:
        normalisation = Normalisation(mean=CIFAR_MEAN, std=CIFAR_STD)
        if network.replace("-", "_").lower() == "wrn_32_10_shafahi":
            normalisation = Normalisation(per_image=True)
        return NetworkSpec(name=network, num_classes=task.num_classes, input_size=size, normalisation=normalisation)

    def _card(
        self, fitted: FitResult, spec: NetworkSpec, task: Task, threat: Threat, run: Run, probe: Validation
    ) -> Card:
        criterion = f"best val {self.select} accuracy (epoch {fitted.best_epoch})" if self.select != "last" else "last epoch"
        return Card(
            network=spec,
            class_names=task.class_names,
            method=f"pretrain:{PRETRAINING.name_of(type(self))}",
            settings=as_dict(self),
            threat=str(threat) if self.adversarial else None,
            data={"name": task.name, "train": len(task.train), "val": len(task.val), "hash": task.train.hash},
            criterion=criterion,
            metrics={f"val_{k}": v for k, v in fitted.last.items()},
            events=fitted.events,
            cost=fitted.passes + probe.passes,
            adversarial_examples=(fitted.images if self.adversarial else 0) + probe.adversarial_examples,
            seconds=fitted.seconds,
            seed=run.seed,
            precision=str(run.dtype()).removeprefix("torch."),
            command=command_line(),
            environment=environment(),
        )

def _label(method: Pretraining, spec: NetworkSpec) -> str:
    return f"{PRETRAINING.name_of(type(method))} {spec.name}"


def _is_main() -> bool:
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


PRETRAINING: Registry[Pretraining] = Registry("pretraining method")
