"""``fit``: the one training loop. It is plain on purpose; what differs between methods is in their Objective."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from timm.utils import ModelEmaV3
from torch import Tensor

from robust_transfer import randomness
from robust_transfer.classifier import Classifier
from robust_transfer.config import as_dict
from robust_transfer.data import Augmentation, Split, to_pixels
from robust_transfer.errors import DataError, DivergedError
from robust_transfer.run import Run
from robust_transfer.training import state
from robust_transfer.training.objective import Batch, Objective, is_finite, one_class
from robust_transfer.training.settings import TrainingSettings

Validate = Callable[[Classifier], dict[str, float]]
EXPLODED = 20.0  # times the loss of the first step (or of a uniform guess, if that is larger)
MAX_DIVERGENCES = 2
SAVE_SECONDS = 300.0


@dataclass(frozen=True)
class FitResult:
    """The trained classifier (averaged or selected, as the settings say) and what happened on the way."""

    classifier: Classifier
    last: dict[str, float]
    best_epoch: int | None
    events: tuple[str, ...]
    images: int
    passes: float
    seconds: float


def batch_order(seed: int, epoch: int, n: int) -> Tensor:
    """The order in which epoch ``epoch`` (from 0) visits ``n`` training images."""
    return randomness.permutation(randomness.Address(seed=seed, purpose="order", step=epoch), n)


def fit(
    objective: Objective,
    split: Split,
    settings: TrainingSettings,
    run: Run,
    *,
    validate: Validate | None = None,
    label: str = "training",
    cached: dict[str, Any] | None = None,
) -> FitResult:
    """Train ``objective`` on ``split``.

    ``validate(classifier)`` returns figures on val after each epoch (``clean_accuracy``, ``robust_accuracy``).
    With ``run.out`` set, metrics go to ``metrics.jsonl`` and the resume state to ``state/``; with ``run.resume`` training
    goes on from there to the same weights, bit for bit on one machine. Raises :class:`DivergedError` after a third
    divergence. ``cached`` adds to the fingerprint that a resume state must match.
    """
    return _Loop(objective, split, settings, run, validate, label, cached or {}).train()


class _Loop:
    """The state of one call of ``fit``."""

    def __init__(
        self,
        objective: Objective,
        split: Split,
        settings: TrainingSettings,
        run: Run,
        validate: Validate | None,
        label: str,
        cached: dict[str, Any],
    ) -> None:
        if not len(split):
            raise DataError("there are no training images: the train split is empty")
        self.settings, self.run, self.split, self.validate, self.label = settings, run, split, validate, label
        self.accelerator = Accelerator(cpu=run.torch_device().type == "cpu")
        self.world, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.device = self.accelerator.device if self.world > 1 else run.torch_device()
        self.main = self.accelerator.is_main_process
        self.batch = min(settings.batch_size, len(split)) // self.world * self.world
        if not self.batch:
            raise DataError(f"{len(split)} training images are too few for {self.world} processes")
        self.steps_per_epoch = len(split) // self.batch
        self.total = max(1, round(settings.epochs * self.steps_per_epoch))
        self.augmentation = Augmentation(pad=settings.pad, flip=settings.flip) if settings.augment else Augmentation.none()

        self.objective = objective.to(self.device, memory_format=torch.channels_last)
        if settings.compile:
            objective.classifier.body.compile()
        self.averaged = ModelEmaV3(objective.classifier, decay=settings.ema) if settings.ema else None
        self.wrapped, self.optimizer = self.accelerator.prepare(
            self.objective, settings.build_optimizer(objective.parameters()), device_placement=[False, False]
        )
        self.best: dict[str, Tensor] | None = None
        self.progress = state.Progress()
        self.out = run.out if self.main else None
        self.fingerprint = {
            "settings": as_dict(settings),
            "seed": run.seed,
            "data": split.hash,
            "objective": type(objective).__name__,
            "network": as_dict(objective.classifier.spec),
            "precision": str(run.dtype()),
            "processes": self.world,
            **cached,
        }

    # ---------------------------------------------------------------- the loop

    def train(self) -> FitResult:
        self._resume()
        self._announce()
        good = self._collect(), json.dumps(vars(self.progress))
        started, saved_at, last = time.perf_counter() - self.progress.seconds, time.perf_counter(), {}
        one_class_batches = 0
        with self._bar() as advance:
            batches = self._batches()
            while self.progress.step < self.total:
                batch = next(batches)
                self._set_rate()
                self.objective.train()
                with self.run.autocast():
                    out = self.wrapped(batch)
                loss = out["loss"]
                one_class_batches = one_class_batches + 1 if one_class(out["logits"], batch.labels) else 0
                trouble = self._trouble(loss, one_class_batches)
                if trouble is None:
                    self.optimizer.zero_grad(set_to_none=True)
                    self.accelerator.backward(loss)
                    self.optimizer.step()
                    if self.averaged is not None:
                        self.averaged.update(self.objective.classifier, step=self.progress.step)
                    self._count(float(loss.detach()), len(batch.images), started)
                    step = self.progress.step
                    epoch_ends = step % self.steps_per_epoch == 0 or step == self.total
                    if step % self.settings.guard_every == 0 or step == self.total:
                        trouble = self._guard()
                    self._log(step, out, batch, epoch_ends)
                if trouble is not None:
                    self._go_back(good, *trouble)
                    batches, one_class_batches = self._batches(), 0
                    advance(self.progress.step, float("nan"))
                    continue
                advance(step, float(loss.detach()))
                if epoch_ends and (self.validate is not None or step == self.total):
                    last = self._validate(step)
                if epoch_ends or step % self.settings.guard_every == 0:
                    good = self._collect(), json.dumps(vars(self.progress))
                    if time.perf_counter() - saved_at > SAVE_SECONDS or epoch_ends:
                        self._save(good[0])
                        saved_at = time.perf_counter()
        return self._result(last)

    def _batches(self) -> Iterator[Batch]:
        """Batches from the current step on; images of streamed splits are read two batches ahead."""
        with ThreadPoolExecutor(1) as pool:
            steps = range(self.progress.step, self.total)
            ahead: list[Any] = []
            for step in steps:
                while len(ahead) < 3 and step + len(ahead) < self.total:
                    ahead.append(pool.submit(self._read, step + len(ahead)))
                images, indices, epoch = ahead.pop(0).result()
                images, ids = images.to(self.device), self.split.ids[indices].to(self.device)
                images = self.augmentation(images, ids, seed=self.run.seed, epoch=epoch)
                labels = self.split.labels[indices].to(self.device)
                yield Batch(to_pixels(images, self.device), labels, ids, indices.to(self.device), step)

    def _read(self, step: int) -> tuple[Tensor, Tensor, int]:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = batch_order(self.run.seed, epoch, len(self.split))
        indices = order[place * self.batch : (place + 1) * self.batch][self.rank :: self.world]
        return self.split.fetch(indices), indices, epoch

    def _set_rate(self) -> None:
        rate = self.settings.rate(self.progress.step, self.total) * self.progress.rate_scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _count(self, loss: float, images: int, started: float) -> None:
        self.progress.step += 1
        self.progress.images += images * self.world
        self.progress.passes += images * self.world * self.objective.passes_per_image
        self.progress.seconds = time.perf_counter() - started
        if self.progress.first_loss is None:
            self.progress.first_loss = loss

    # ---------------------------------------------------------------- trouble

    def _trouble(self, loss: Tensor, one_class_batches: int) -> tuple[str, bool] | None:
        """``(what, whether it is a divergence)``; all processes agree."""
        uniform = math.log(self.objective.classifier.num_classes)
        limit = EXPLODED * max(uniform, self.progress.first_loss or uniform)
        value = loss.detach().float()
        bad = torch.tensor(
            [not is_finite(value), bool(value > limit), one_class_batches >= self.objective.collapse_patience],
            device=self.device,
            dtype=torch.float32,
        )
        if self.world > 1:
            bad = self.accelerator.reduce(bad, "sum")
        names = ("the loss is not a number", f"the loss exploded ({float(value):.3g})", "all predictions are one class")
        for flag, name in zip(bad.tolist(), names, strict=True):
            if flag:
                return name, True
        return None

    def _guard(self) -> tuple[str, bool] | None:
        what, figures = self.objective.guard()
        if figures:
            self._write({"step": self.progress.step, **figures})
        return (what, False) if what else None

    def _go_back(self, good: tuple[dict[str, Tensor], str], what: str, divergence: bool) -> None:
        """Restore the last good state; halve the rate, or let the objective change its ways; give up after a while."""
        at, before = self.progress.step, self.progress
        self.best = state.restore(good[0], self.objective, self.optimizer, self.averaged)
        self.progress = state.Progress(**json.loads(good[1]))
        self.progress.events = list(before.events)
        self.progress.divergences, self.progress.reactions = before.divergences, before.reactions
        self.progress.rate_scale = before.rate_scale
        self.progress.images, self.progress.passes = before.images, before.passes  # what was lost was spent all the same
        self.progress.seconds = before.seconds
        if divergence:
            self.progress.divergences += 1
            if self.progress.divergences > MAX_DIVERGENCES:
                self._event(f"step {at}: {what}")
                raise DivergedError(
                    f"training diverged {self.progress.divergences} times ({what} at step {at}, at rate "
                    f"{self.settings.learning_rate * self.progress.rate_scale:g}): nothing was saved; try a smaller learning_rate"
                )
            self.progress.rate_scale /= 2
            done = f"learning rate halved to {self.settings.learning_rate * self.progress.rate_scale:g}"
        else:
            self.progress.reactions += 1
            if self.progress.reactions > self.objective.max_reactions:
                raise DivergedError(f"{what} at step {at}, again after every countermeasure: nothing was saved")
            done = self.objective.react()
        self._event(f"step {at}: {what}; went back to step {self.progress.step}, {done}")

    def _event(self, text: str) -> None:
        self.progress.events.append(text)
        self._write({"step": self.progress.step, "event": text})

    # ---------------------------------------------------------------- records

    def _candidate(self) -> Classifier:
        return self.averaged.module if self.averaged is not None else self.objective.classifier

    def _validate(self, step: int) -> dict[str, float]:
        figures = self.validate(self._candidate()) if self.validate is not None else {}
        if figures:
            self._write({"step": step, "epoch": step / self.steps_per_epoch, **{f"val_{k}": v for k, v in figures.items()}})
        score = figures.get(f"{self.settings.select}_accuracy")
        if score is not None and (self.progress.best is None or score > self.progress.best):
            self.progress.best, self.progress.best_epoch = score, math.ceil(step / self.steps_per_epoch)
            self.best = {k: v.detach().clone() for k, v in self._candidate().state_dict().items()}
        return figures

    def _result(self, last: dict[str, float]) -> FitResult:
        classifier = self._candidate()
        if self.best is not None:
            classifier.load_state_dict(self.best, strict=True)
        progress = self.progress
        return FitResult(
            classifier=classifier.copy().cpu().eval(),
            last=last,
            best_epoch=progress.best_epoch,
            events=tuple(progress.events),
            images=progress.images,
            passes=progress.passes,
            seconds=progress.seconds,
        )

    def _collect(self) -> dict[str, Tensor]:
        return state.collect(self.objective, self.optimizer, self.averaged, self.best)

    def _save(self, tensors: dict[str, Tensor]) -> None:
        if self.out is not None:
            state.save(self.out, tensors, self.progress, self.fingerprint)

    def _resume(self) -> None:
        if self.run.out is None or not self.run.resume:
            return
        loaded = state.load(self.run.out, self.fingerprint)
        if loaded is not None:
            self.best = state.restore(loaded[0], self.objective, self.optimizer, self.averaged)
            self.progress = loaded[1]
        if self.main:
            _truncate(self.run.out / "metrics.jsonl", self.progress.step)

    def _announce(self) -> None:
        if self.world > 1 and not self.progress.step:
            held = self.objective.classifier.hold_batch_norm
            note = "batch norm in evaluation mode" if held else "batch-norm statistics are those of each process's share"
            self._event(f"{self.world} processes, {self.batch // self.world} images each a step; {note}")

    def _log(self, step: int, out: dict[str, Tensor], batch: Batch, epoch_ends: bool) -> None:
        if self.out is None or not (step % 50 == 0 or epoch_ends or step == 1):
            return
        scalars = {k: float(v.detach()) for k, v in out.items() if k != "logits"}
        accuracy = (out["logits"].argmax(1) == batch.labels).float().mean()
        rate = self.optimizer.param_groups[0]["lr"]
        record = {"step": step, "epoch": step / self.steps_per_epoch, **scalars, "accuracy": float(accuracy), "rate": rate}
        self._write({**record, "seconds": round(self.progress.seconds, 2)})

    def _write(self, record: dict[str, Any]) -> None:
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def _bar(self) -> _Bar:
        return _Bar(self.label, self.total, self.progress.step, hidden=self.run.quiet or not self.main)


class _Bar:
    """A progress bar with time left, on standard error."""

    def __init__(self, label: str, total: int, step: int, hidden: bool) -> None:
        from rich.console import Console

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}"))
        console = Console(stderr=True)
        self.bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=hidden)
        self.task = self.bar.add_task(label, total=total, completed=step, loss="")

    def __enter__(self) -> Callable[[int, float], None]:
        self.bar.start()
        return lambda step, loss: self.bar.update(self.task, completed=step, loss=f"{loss:.3f}")

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def _truncate(path: Path, step: int) -> None:
    """Drop the log lines of steps that a resumed run takes again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue  # the line that the kill cut short
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
