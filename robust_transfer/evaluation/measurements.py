"""What is asked for beside the outcomes: red flags, what threatens a transferred model, classes, other budgets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from robust_transfer.attacks import Attack, Knowledge
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split, to_pixels
from robust_transfer.data.subsets import stratified
from robust_transfer.engine import Engine
from robust_transfer.evaluation.curve import Budgets, by_class
from robust_transfer.evaluation.deadline import Deadline
from robust_transfer.evaluation.outcomes import CLEAN, STANDING
from robust_transfer.evaluation.red_flags import red_flags
from robust_transfer.evaluation.resolve import module_of
from robust_transfer.evaluation.result import SMALLEST, Evaluation
from robust_transfer.evaluation.transfer_attacks import examine
from robust_transfer.modes import on_device
from robust_transfer.run import Run
from robust_transfer.threat import Threat

CHECKING, EXAMINING = 900, 450  # image passes that an image takes, about
LATE = "for want of time"


@dataclass(frozen=True)
class Asked:
    """``checked`` and ``beyond``: on how many images red flags and a transferred model's own threats are looked for."""

    checked: int = 0
    beyond: int = 0
    per_class: bool = False
    curve: Sequence[str | float] | None = None
    smallest_eps: bool = False


@dataclass(frozen=True)
class Extras:
    """Adds to an evaluation of ``split``, a part of ``whole``, what is asked for and is not there."""

    model: Checkpoint | nn.Module
    source: Checkpoint | None
    attacks: Sequence[Attack]
    whole: Split
    split: Split
    threat: Threat
    run: Run
    engine: Engine
    batch_size: int | None
    knowledge: Knowledge | None

    def add(self, found: Evaluation, asked: Asked, deadline: Deadline) -> Evaluation:
        """``found`` with what fits before the deadline; what does not is said to be untested."""
        each = found.passes / max(len(found.outcomes), 1)
        curve = asked.curve
        parts: list[tuple[str, float, Callable[[Evaluation], Evaluation]]] = []
        if asked.checked and not found.checked:
            parts.append(("red flags", CHECKING * asked.checked, lambda f: self._check(f, asked.checked)))
        if asked.beyond and found.transferred is None and self._is_transferred:
            examined = min(asked.beyond, len(self.whole))
            parts.append(
                ("a transferred model's own threats", EXAMINING * examined, lambda f: self._examine(f, examined))
            )
        if curve is not None and found.curve is None:
            parts.append(("the curve", each * len(self.split) * len(curve), lambda f: self._curve(f, curve)))
        if asked.smallest_eps and SMALLEST not in found.outcomes:
            parts.append(("the smallest eps", 6 * each * len(self.split), self._smallest))
        classes = asked.per_class and found.by_class is None
        if not parts and not classes:
            return found
        late, asked_for = [], {f"{name}: {LATE}" for name, _, _ in parts}
        for name, passes, make in parts:
            speed = found.passes / found.seconds if found.seconds else math.inf
            if passes / speed > deadline.left:
                late.append(f"{name}: {LATE}")
                continue
            begun = time.perf_counter()
            found = make(found)
            found = replace(found, seconds=round(found.seconds + time.perf_counter() - begun, 3))
        if classes:
            found = replace(found, by_class=by_class(found.outcomes, self.split.class_names))
        return replace(found, untested=[*(u for u in found.untested if u not in asked_for), *late])

    @property
    def _is_transferred(self) -> bool:
        return isinstance(self.model, Checkpoint) and (self.source is not None or self.model.card.source is not None)

    @property
    def _module(self) -> nn.Module:
        return module_of(self.model)

    def _check(self, found: Evaluation, n: int) -> Evaluation:
        """Red flags on a stratified sample of ``n`` of the images."""
        device = self.run.torch_device()
        rows = stratified(self.split.labels, len(self.split.class_names), n, seed=self.run.seed, purpose="checks")
        sample = self.split.subset(rows)
        x, labels, ids = to_pixels(sample.images(), device), sample.labels.to(device), sample.ids.to(device)
        fate = found.outcomes["broken_by"].to_numpy()[rows.numpy()]
        broken = torch.from_numpy((fate != STANDING) & (fate != CLEAN)).to(device)
        with on_device(self._module, device):
            flags, passes = red_flags(
                self._module, x, labels, ids, self.threat,
                seed=self.run.seed, engine=self.engine, attacks=self.attacks, broken=broken,
            )  # fmt: skip
        flags = [*found.flags, *(flag for flag in flags if flag not in found.flags)]
        return replace(found, flags=flags, passes=found.passes + passes, checked=len(rows))

    def _examine(self, found: Evaluation, n: int) -> Evaluation:
        assert isinstance(self.model, Checkpoint)
        transferred = examine(
            self.model, self.source, self.whole, self.threat, self.run,
            engine=self.engine, knowledge=self.knowledge, n=n,
        )  # fmt: skip
        untested = found.untested
        if self.source is None:
            missing = "the model's own source, and attacks by it: the source is not at hand (give --source)"
            untested = [*untested, missing]
        return replace(found, transferred=transferred, passes=found.passes + transferred.passes, untested=untested)

    def _budgets(self) -> Budgets:
        some = (self.attacks, self._module, self.split, self.threat, self.run, self.engine)
        return Budgets(*some, batch_size=self.batch_size, knowledge=self.knowledge)

    def _curve(self, found: Evaluation, curve: Sequence[str | float]) -> Evaluation:
        reach = self._budgets()
        return replace(found, curve=reach.curve(curve, found.outcomes), passes=found.passes + reach.passes)

    def _smallest(self, found: Evaluation) -> Evaluation:
        reach, table = self._budgets(), found.outcomes.copy()
        table[SMALLEST] = reach.smallest(table)
        return replace(found, outcomes=table, passes=found.passes + reach.passes)
