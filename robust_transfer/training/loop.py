"""``fit``: the one training loop, deliberately plain; methods differ in their Objective."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.allocation import keep_freed_memory
from robust_transfer.classifier import Classifier
from robust_transfer.compiling import keep_compiled
from robust_transfer.config import as_dict, digest
from robust_transfer.cost import Cost
from robust_transfer.data import Split
from robust_transfer.errors import CheckpointError, ConfigError, DivergedError
from robust_transfer.messages import logger
from robust_transfer.progress import Bar
from robust_transfer.run import Run
from robust_transfer.training import state
from robust_transfer.training.automatic_rate import halvings
from robust_transfer.training.batches import Batches
from robust_transfer.training.log import Log
from robust_transfer.training.objective import Batch, Objective, is_finite, one_class
from robust_transfer.training.processes import Processes
from robust_transfer.training.settings import TrainingSettings

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3

log = logger(__name__)

Validate = Callable[[Classifier], dict[str, float]]
MAX_LOSS_RATIO = 20.0  # times the loss of the first step (or of a uniform guess, if that is larger)
MAX_DIVERGENCES = 2
UNTRAINED_BATCHES = 400  # batches that a network may take to predict more than one class for the first time
SAVE_SECONDS = 300.0


@dataclass(frozen=True)
class FitResult:
    """Trained classifier (averaged or selected, by the settings) and the record of its training.

    ``last`` are the latest figures on val. ``images`` and ``passes`` (forward-equivalent) count all of training,
    undone steps and the guard included, ``validation_passes`` and ``validation_examples`` count validation.
    """

    classifier: Classifier
    figures: dict[str, float]
    best_epoch: int | None
    events: tuple[str, ...]
    images: int
    passes: float
    seconds: float
    validation_passes: float = 0.0
    validation_examples: int = 0
    earlier_seconds: float = 0.0

    def cost(self, adversarial: bool) -> Cost:
        """Passes and examples of training and validation; ``adversarial``: training images were crafted.

        The seconds are those of the interrupted runs before this one.
        """
        return Cost(
            passes=self.passes + self.validation_passes,
            adversarial_examples=(self.images if adversarial else 0) + self.validation_examples,
            seconds=self.earlier_seconds,
        )


@dataclass(frozen=True)
class Trouble:
    """Reason to return to an earlier state; a ``divergence`` halves the rate, the objective reacts to others."""

    what: str
    divergence: bool = True


def fit(
    objective: Objective,
    split: Split,
    settings: TrainingSettings,
    run: Run,
    *,
    validate: Validate | None = None,
    label: str = "training",
    fingerprint: dict[str, Any] | None = None,
) -> FitResult:
    """Train ``objective`` on ``split``.

    ``validate(classifier)`` returns figures on val after each epoch (``clean_accuracy``, ``robust_accuracy``).
    With ``run.out`` set, metrics go to ``metrics.jsonl`` and the resume state to ``state/``; with ``run.resume``
    training goes on from there to the same weights, bit for bit on one machine. ``fingerprint`` adds to the fingerprint that
    a resume state must match. Raises :class:`DivergedError` after a third divergence.
    """
    if settings.select != "last" and validate is None:
        raise ConfigError(f"select={settings.select} needs figures on val: use select=last")
    return _Loop(objective, split, settings, run, validate, label, fingerprint or {}).train()


class _Loop:
    """State of one call of ``fit``."""

    def __init__(
        self,
        objective: Objective,
        split: Split,
        settings: TrainingSettings,
        run: Run,
        validate: Validate | None,
        label: str,
        fingerprint: dict[str, Any],
    ) -> None:
        self.settings, self.run, self.validate, self.label = settings, run, validate, label
        self.processes = Processes(run.torch_device())
        self.batches = Batches(split, settings, run.seed, self.processes, objective.replays, objective.needs_images)
        self.total, self.per_epoch = self.batches.total, self.batches.per_epoch
        self.device = self.processes.device

        objective.total_steps = self.total
        self.objective = objective.to(self.device)  # the classifier is channels-last already
        if settings.compile:
            keep_compiled()
            objective.classifier.body.compile()
        self.averaged = _averaged(objective.classifier, settings.ema) if settings.ema else None
        self.wrapped = self.processes.wrap(objective)
        self.optimizer = settings.build_optimizer(objective.parameters(), objective.undecayed())
        self.best: dict[str, Tensor] | None = None
        self.progress = state.Progress()
        self.out = run.out if self.processes.main else None
        self.log = Log(self.out)
        self.fingerprint = {
            "settings": as_dict(settings),
            "seed": run.seed,
            "data": split.hash,
            **({"weights": digest(split.weights.tolist())} if split.weights is not None else {}),
            "objective": type(objective).__name__,
            "network": as_dict(objective.classifier.spec),
            "precision": str(run.dtype()),
            "processes": self.processes.world,
            **fingerprint,
        }

    # ---------------------------------------------------------------- the loop

    def train(self) -> FitResult:
        self._resume()
        self._announce()
        self._remember()
        self.earlier_seconds = self.progress.seconds
        self.started = time.perf_counter() - self.earlier_seconds
        self.saved_at = time.perf_counter()
        hidden = self.run.quiet or not self.processes.main
        with keep_freed_memory(), Bar(self.label, self.total, self.progress.step, hidden) as advance:
            while self.progress.step < self.total:
                with closing(self.batches.after(self.progress.step)) as batches:
                    for batch in batches:
                        loss, trouble = self._step(batch)
                        if trouble is not None:
                            self._go_back(trouble)
                            advance(self.progress.step, math.nan)
                            break
                        advance(self.progress.step, loss)
                        self._after_step(loss)
        return self._result()

    def _step(self, batch: Batch) -> tuple[float, Trouble | None]:
        """One step of the optimiser; returns trouble, if any."""
        for group in self.optimizer.param_groups:
            group["lr"] = (
                self.settings.rate(self.progress.step, self.total) * self.progress.rate_scale / 2**self._halved
            )
        self.objective.train()
        with self.run.autocast():
            out = self._forward(batch)
        loss = float(out["loss"].detach())
        trouble = self._look_at(out, batch)
        if trouble is not None:
            return loss, trouble
        self.optimizer.zero_grad(set_to_none=True)
        out["loss"].backward()
        self.objective.after_backward(self.processes.gather)
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update(self.objective.classifier, step=self.progress.step)
        self._count(loss, len(batch.images))
        if self._epoch_ends or self._guard_is_due:
            trouble = self._inspect()
        self._log_step(out, batch)
        return loss, trouble

    def _after_step(self, loss: float) -> None:
        """Finish a good step: validate, and keep a state to return to or resume from."""
        if self._epoch_ends and self.validate is not None:
            self._validate(self.validate)
        if self._epoch_ends and self.processes.main:
            told = "".join(f", val {name.replace('_', ' ')} {value:.3f}" for name, value in self.progress.last.items())
            log.info("%s: step %d of %d, loss %.3f%s", self.label, self.progress.step, self.total, loss, told)
        if not (self._epoch_ends or self._guard_is_due):
            return
        if self.processes.any([self.progress.several and self.progress.one_class > 0])[0]:
            return  # possibly the beginning of a collapse, on some process: not a state to go back to
        self._remember()
        if self._epoch_ends or time.perf_counter() - self.saved_at > SAVE_SECONDS:
            self._save()

    @property
    def _halved(self) -> int:
        """Number of times that an automatic rate has been halved so far."""
        return len(halvings(self.progress.scores, math.ceil(self.total / self.per_epoch)))

    @property
    def _epoch_ends(self) -> bool:
        return self.progress.step % self.per_epoch == 0 or self.progress.step == self.total

    @property
    def _guard_is_due(self) -> bool:
        return self.progress.step % self.settings.guard_every == 0 or self.progress.step == self.total

    def _count(self, loss: float, images: int) -> None:
        self.progress.step += 1
        self.progress.images += images * self.processes.world
        self.progress.passes += images * self.processes.world * self.objective.passes_per_image
        self.progress.seconds = time.perf_counter() - self.started
        if self.progress.first_loss is None:
            self.progress.first_loss = loss

    # ---------------------------------------------------------------- trouble

    def _look_at(self, out: dict[str, Tensor], batch: Batch) -> Trouble | None:
        """Divergence in a batch's loss or predictions; all processes agree."""
        progress, loss = self.progress, out["loss"].detach().float()
        collapsed = one_class(out["logits"], batch.labels)
        progress.one_class = progress.one_class + 1 if collapsed else 0
        progress.several |= not collapsed
        # A new head may begin by predicting one class; collapse is to come back to it.
        patience = self.objective.collapse_patience if progress.several else UNTRAINED_BATCHES
        uniform = math.log(self.objective.classifier.num_classes)
        first = progress.first_loss if progress.first_loss is not None else math.inf
        heavy = (
            float(batch.weights.mean()) if batch.weights is not None else 1.0
        )  # an image of a rare class among others
        found = {
            "the loss is not a number": not is_finite(loss),
            f"the loss exploded ({float(loss):.3g})": bool(
                loss > MAX_LOSS_RATIO * max(1.0, heavy) * max(uniform, first)
            ),
            "all predictions are one class": progress.one_class >= max(patience, self.objective.collapse_patience),
        }
        for what, raised in zip(found, self.processes.any(list(found.values())), strict=True):
            if raised:
                return Trouble(what)
        return None

    def _inspect(self) -> Trouble | None:
        """Trouble beyond single batches: weights that are not finite, or a finding of the objective's guard."""
        finite = state.finite(self.objective, self.optimizer, self.averaged)
        if self.processes.any([not finite])[0]:
            return Trouble("weights are not numbers")
        what, figures = self.objective.guard()  # at epoch ends, too: no state is kept that it has not looked at
        self.progress.passes += self.objective.spent
        self.objective.spent = 0.0
        if figures:
            self.log.write({"step": self.progress.step, **figures})
        what = self.processes.from_main(what)
        return Trouble(what, divergence=False) if what else None

    def _go_back(self, trouble: Trouble) -> None:
        """Restore the last good state; halve the rate, or let the objective react; give up after several times."""
        # What was spent since stays spent (costs are honest), and what was learnt about the training stays learnt: the
        # restored state is older than the reactions, so they are applied to it anew. Without that it would go the same way.
        at, now = self.progress.step, self.progress
        tensors, text = self.good
        then = state.Progress(**json.loads(text))
        self.best = state.restore(tensors, self.objective, self.optimizer, self.averaged, self.device)
        self.progress = then.spent_by(now)
        for _ in range(now.reactions - then.reactions):
            self.objective.react()
        if trouble.divergence:
            self.progress.divergences += 1
            rate = self.settings.learning_rate * self.progress.rate_scale
            if self.progress.divergences > MAX_DIVERGENCES:
                self._event(f"step {at}: {trouble.what}; gave up")
                raise DivergedError(
                    f"training diverged {self.progress.divergences} times ({trouble.what} at step {at}, at rate "
                    f"{rate:g}): nothing was saved; try a smaller learning_rate"
                )
            self.progress.rate_scale /= 2
            done = f"learning rate halved to {rate / 2:g}"
        else:
            self.progress.reactions += 1
            if self.progress.reactions > self.objective.max_reactions:
                self._event(f"step {at}: {trouble.what}; gave up")
                raise DivergedError(
                    f"{trouble.what} at step {at}, again after every countermeasure: nothing was saved; "
                    "try a smaller learning_rate"
                )
            done = self.objective.react()
        self._event(f"step {at}: {trouble.what}; went back to step {self.progress.step}, {done}")

    # ---------------------------------------------------------------- records

    def _candidate(self) -> Classifier:
        return self.averaged.module if self.averaged is not None else self.objective.classifier

    def _validate(self, validate: Validate) -> None:
        """Validate in the main process; keep the weights if they are the best so far by the criterion."""
        progress, select = self.progress, self.settings.select
        before = _spent(validate)
        figures = self.processes.from_main(validate(self._candidate()) if self.processes.main else {})
        spent = _spent(validate)
        progress.validation_passes += spent.passes - before.passes
        progress.validation_examples += spent.adversarial_examples - before.adversarial_examples
        progress.last = figures
        epoch = progress.step / self.per_epoch
        if figures:
            self.log.write({"step": progress.step, "epoch": epoch, **{f"val_{k}": v for k, v in figures.items()}})
        if select == "last":
            return
        if f"{select}_accuracy" not in figures:
            raise ConfigError(
                f"select={select} needs {select}_accuracy on val, and it is not measured: use select=last"
            )
        score = figures[f"{select}_accuracy"]
        if math.isfinite(score) and (progress.best is None or score > progress.best):
            progress.best, progress.best_epoch, progress.best_figures = score, math.ceil(epoch), figures
            self.best = {k: v.detach().clone() for k, v in self._candidate().state_dict().items()}
        if self.settings.schedule == "automatic":
            halved = self._halved
            progress.scores.append(score)
            if self._halved > halved and self.best is not None:
                self.objective.classifier.load_state_dict(self.best, strict=True)

    def _result(self) -> FitResult:
        classifier, progress = self._candidate(), self.progress
        if self.best is not None:
            classifier.load_state_dict(self.best, strict=True)
        return FitResult(
            classifier=classifier.copy().cpu().eval(),
            figures=progress.best_figures if self.best is not None else progress.last,
            best_epoch=progress.best_epoch,
            events=tuple(progress.events),
            images=progress.images,
            passes=progress.passes,
            seconds=progress.seconds,
            validation_passes=progress.validation_passes,
            validation_examples=progress.validation_examples,
            earlier_seconds=self.earlier_seconds,
        )

    def _remember(self) -> None:
        tensors = state.collect(self.objective, self.optimizer, self.averaged, self.best, self.device)
        self.good = tensors, json.dumps(asdict(self.progress))

    def _save(self) -> None:
        self.saved_at = time.perf_counter()
        if self.out is not None:
            self.progress.logged = self.log.size()
            state.save(self.out, self.good[0], self.progress, self.fingerprint)

    def _forward(self, batch: Batch) -> dict[str, Tensor]:
        try:
            return cast(dict[str, Tensor], self.wrapped(batch))
        except ValueError as error:
            alone = self.batches.size == self.processes.world
            if alone and any(isinstance(part, _BatchNorm) for part in self.objective.modules()):
                raise ConfigError(
                    f"batch norm cannot be trained on one image at a time ({error}): give a batch_size of at least 2"
                ) from None
            raise

    def _resume(self) -> None:
        if self.run.out is None or not self.run.resume:
            return
        loaded = state.load(self.run.out, self.fingerprint)
        if loaded is None:
            self.log.cut(0, 0)
            return
        tensors, self.progress = loaded
        try:
            self.best = state.restore(tensors, self.objective, self.optimizer, self.averaged, self.device)
        except (RuntimeError, ValueError, KeyError) as error:
            message = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"the resume state does not fit ({message}): start again with --overwrite") from None
        self.log.cut(self.progress.logged, self.progress.step)

    def _announce(self) -> None:
        world = self.processes.world
        if world > 1 and not self.progress.step:
            held = self.objective.classifier.hold_batch_norm
            note = (
                "batch norm in evaluation mode" if held else "batch-norm statistics are those of each process's share"
            )
            self._event(f"{world} processes, {self.batches.size // world} images each a step; {note}")

    def _event(self, text: str) -> None:
        log.info("%s: %s", self.label, text)
        self.progress.events.append(text)
        self.log.write({"step": self.progress.step, "event": text})

    def _log_step(self, out: dict[str, Tensor], batch: Batch) -> None:
        step = self.progress.step
        if not self.log.is_read or not (step % 50 == 0 or self._epoch_ends or step == 1):
            return
        scalars = {k: float(v.detach()) for k, v in out.items() if k != "logits"}
        accuracy = (out["logits"].argmax(1) == batch.labels).float().mean()
        rate = self.optimizer.param_groups[0]["lr"]
        record = {"step": step, "epoch": step / self.per_epoch, **scalars, "accuracy": float(accuracy), "rate": rate}
        self.log.write({**record, "seconds": round(self.progress.seconds, 2)})


def _averaged(classifier: Classifier, decay: float) -> ModelEmaV3:
    """Moving average of weights and batch statistics, whose decay rises to ``decay``: ``1 - n ** (-2 / 3)`` at step n."""
    from timm.utils import ModelEmaV3  # with torchvision it takes seconds to load, and most runs average nothing

    # A constant decay of 0.998 looks back 500 steps from the first one on, to random weights. With the warm-up it looks back
    # n^(2/3) steps of n: a short run's average is as near its end, in proportion, as a long one's.
    return ModelEmaV3(classifier, decay=decay, use_warmup=True)


def _spent(validate: Validate) -> Cost:
    """Cost of a validation so far, if it is counted."""
    spent: Cost = getattr(validate, "cost", Cost())
    return spent
