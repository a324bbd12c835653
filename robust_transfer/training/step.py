"""A step of training: taken whole, in parts where memory does not suffice, again in float32, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from robust_transfer.errors import ConfigError
from robust_transfer.halving import ran_out
from robust_transfer.run import Run, in_float32
from robust_transfer.training import fault
from robust_transfer.training.before import Before
from robust_transfer.training.objective import Batch, Objective
from robust_transfer.training.parts import gradients, has_batch_statistics, smaller
from robust_transfer.training.processes import Processes
from robust_transfer.training.state import Progress
from robust_transfer.training.tracing import traced
from robust_transfer.training.trouble import Trouble, in_results, numberless

MAX_RETAKEN = 3  # steps taken again in float32 after which the rest of training is in float32
Figures = dict[str, Tensor]


class Steps:
    """Steps of one training. ``out``: folder for a step that fails, if any; ``event`` is told what changes on the way."""

    def __init__(
        self,
        objective: Objective,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
        run: Run,
        out: Path | None,
        event: Callable[[str], None],
    ) -> None:
        self.objective, self.wrapped, self.optimizer = objective, wrapped, optimizer
        self.processes, self.run, self.event = processes, run, event
        self.out = out if processes.world == 1 else None  # a process has a share of the batch
        self.before = Before(objective, optimizer, processes.device)

    def take(
        self, batch: Batch, progress: Progress, rate: float, fingerprint: dict[str, Any]
    ) -> tuple[Figures, Trouble | None]:
        """Figures and logits of a batch, and trouble, after which the weights are not to be used.

        What is not finite is recorded, and taken again in float32 where it was in another precision.
        """
        self.before.keep()
        seen = progress.one_class, progress.several
        exact = progress.retaken >= MAX_RETAKEN
        out, trouble = self._attempt(batch, progress, rate, exact)
        if trouble is None or not trouble.numeric:
            return out, trouble
        progress.one_class, progress.several = seen
        if self.out is not None:
            self.before.restore()
            with traced(self.objective) as trace:  # the layer in which it shows first: the step is repeated
                self._gradients(batch, progress, exact)
            found = fault.Fault.of(trouble, trace.first, rate, exact, progress)
            fault.save(self.out, found, batch, self.before, fingerprint)
        if exact or self.run.dtype() is torch.float32:
            return out, trouble
        self.before.restore()
        out, again = self._attempt(batch, progress, rate, exact=True)
        if again is None:
            self._note_retaken(trouble, progress)
        return out, again

    def replay(self, folder: Path, fingerprint: dict[str, Any]) -> NoReturn:
        """Repeat the recorded step; raises :class:`DivergedError` where it fails in the same way, bit for bit."""
        found, batch, tensors = fault.load(folder, fingerprint, self.processes.device)
        fault.put_back(tensors, self.before)
        self.before.keep()
        _, trouble = self._attempt(batch, Progress(**found.progress), found.rate, found.exact)
        found.compare(trouble)

    def _attempt(self, batch: Batch, progress: Progress, rate: float, exact: bool) -> tuple[Figures, Trouble | None]:
        """A step, up to the new weights: its figures and logits, and the first trouble on the way."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.objective.train()
        out, first = self._gradients(batch, progress, exact), self.processes.first
        trouble = (
            first(in_results(out, batch, self.objective, progress))
            or first(numberless("the gradient of {} is not a number", *self._weight_gradients()))
            or first(self._update())
        )
        return out, trouble

    def _gradients(self, batch: Batch, progress: Progress, exact: bool) -> Figures:
        """Gradients of a batch, at once or in the parts that fit in memory; its figures and logits."""
        n, least = len(batch.labels), 2 if has_batch_statistics(self.objective) else 1
        with in_float32(exact):
            while True:
                size = min(progress.part or n, n)
                self.optimizer.zero_grad(set_to_none=True)
                try:
                    return gradients(batch, self._forward, max(1, min(-(-n // size), n // least)))
                except (MemoryError, RuntimeError) as error:
                    if not ran_out(error):
                        raise
                # outside the handler: the error holds what the failed pass has computed
                self.optimizer.zero_grad(set_to_none=True)
                self.before.restore()
                progress.part = smaller(size, self.objective, self.processes.world, least)
                others = "; batch-norm statistics are those of a part" if least > 1 else ""
                self.event(
                    f"step {progress.step}: memory does not suffice for a whole batch; {progress.part} images at a time "
                    f"from here on, whose gradients are added up{others}"
                )

    def _update(self) -> Trouble | None:
        """Step of the optimiser; trouble if a weight, a statistic or a moment is no number afterwards."""
        self.objective.after_backward(self.processes.gather)
        self.optimizer.step()
        return numberless("{} is not a number after the step", *self.before.changing())

    def _weight_gradients(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, p.grad) for name, p in self.objective.named_parameters() if p.grad is not None)

    def _forward(self, batch: Batch) -> Figures:
        try:
            with self.run.autocast():
                return cast(Figures, self.wrapped(batch))
        except ValueError as error:
            if len(batch.labels) == 1 and has_batch_statistics(self.objective):
                raise ConfigError(
                    f"batch norm cannot be trained on one image at a time ({error}): give a batch_size of at least 2"
                ) from None
            raise

    def _note_retaken(self, low: Trouble, progress: Progress) -> None:
        progress.retaken += 1
        told = f"{low.what} in {str(self.run.dtype()).removeprefix('torch.')}; the step was taken again in float32"
        last = ", as are all steps from here on" if progress.retaken == MAX_RETAKEN else ""
        self.event(f"step {progress.step}: {told}{last}")
