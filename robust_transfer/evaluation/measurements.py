"""Optional measurements: red flags, transfer-specific attacks, per-class accuracy, other budgets and threats, corruptions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from types import NoneType

import torch

from robust_transfer.certification import Certifier
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import expect
from robust_transfer.corruptions import seconds_each
from robust_transfer.data.subsets import stratified
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import further, sizes, transfer_attacks
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.certifying import certify, missing
from robust_transfer.evaluation.classes import balanced, by_class
from robust_transfer.evaluation.corrupted import EACH, corrupt_split
from robust_transfer.evaluation.curve import Budgets
from robust_transfer.evaluation.deadline import Deadline
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.evaluation.red_flags import BY_GRADIENTS, RAISED, passes_each, red_flags
from robust_transfer.evaluation.resolve import Subject
from robust_transfer.evaluation.result import SMALLEST_EPS, Evaluation
from robust_transfer.modes import on_device
from robust_transfer.run import Run
from robust_transfer.threat import Threat, parse_eps

LATE, CORRUPTIONS = "for want of time", "the corruptions"
NO_SOURCE = "the model's own source, and attacks by it: the source is not at hand (give --source)"
Measure = Callable[[Evaluation], Evaluation]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Optional measurements to make beside the outcomes.

    ``red_flag_examples`` and ``transfer_attack_examples``: numbers of images; 0 for none, None for as many as
    :mod:`~robust_transfer.evaluation.sizes` says, or the maximum in a ``thorough`` evaluation.
    """

    red_flag_examples: int | None = 0
    transfer_attack_examples: int | None = 0
    thorough: bool = False
    per_class: bool = False
    curve: Sequence[str | float] | None = None
    smallest_eps: bool = False
    certify: Sequence[Certifier] = ()
    also: Sequence[Threat] = ()
    corruptions: bool = False

    def __post_init__(self) -> None:
        for name in ("red_flag_examples", "transfer_attack_examples"):
            expect(name, getattr(self, name), Integral, NoneType)
        if min(self.red_flag_examples or 0, self.transfer_attack_examples or 0) < 0:
            raise ConfigError("red_flag_examples and transfer_attack_examples are numbers of images: 0 for none")
        if self.curve is not None and not len(self.curve):
            raise ConfigError("a curve needs at least one budget, such as 2/255,4/255,8/255")

    def check_curve(self, threat: Threat) -> None:
        """Raise :class:`ThreatError` for a budget of the curve that is not a valid eps of ``threat``."""
        for level in self.curve or ():
            replace(threat, eps=float(parse_eps(level)))


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Add the requested measurements that an evaluation of ``subject`` by ``adversary`` lacks."""

    subject: Subject
    adversary: Adversary
    run: Run

    def add(self, found: Evaluation, request: Request, deadline: Deadline) -> Evaluation:
        """``found`` with all measurements that fit before the deadline; others are listed as untested."""
        parts = list(self._parts(found, request))
        classes = request.per_class and not found.per_class
        if not parts and not classes:
            return found
        late, asked_for, whole = [], {f"{name}: {LATE}" for name, _, _ in parts}, found
        for name, passes, measure in parts:
            speed = found.passes / found.seconds if found.seconds else math.inf
            seconds = passes / speed
            if name == CORRUPTIONS and seconds < deadline.left < math.inf:  # to make the images takes longer
                seconds += self._making()
            if seconds > deadline.left:
                late.append(f"{name}: {LATE}")
                continue
            started = time.perf_counter()
            more = measure(whole)
            whole = replace(more, seconds=round(whole.seconds + time.perf_counter() - started, 3))
        if classes:
            shares = by_class(whole.outcomes, self.subject.split.class_names)  # an older record may lack them
            whole = replace(whole, by_class=shares, per_class=True, **balanced(shares))
        return replace(whole, untested=[*(u for u in whole.untested if u not in asked_for), *late])

    def asked(self, found: Evaluation, request: Request) -> bool:
        """True if something slow is still to be measured."""
        return any(True for _ in self._parts(found, request))

    def _parts(self, found: Evaluation, request: Request) -> Iterator[tuple[str, float, Measure]]:
        """Measurements still to be made, with their approximate image passes."""
        each, n, curve = found.passes / max(len(found.outcomes), 1), len(found.outcomes), request.curve
        checked, examined = self._sizes(found, request)
        if checked > found.red_flag_examples:
            yield RAISED, passes_each(self.adversary) * checked, lambda f: self._check(f, checked)
        if examined > (found.transferred.n if found.transferred is not None else 0):
            yield "transfer attacks", self._examining * examined, lambda f: self._examine(f, examined)
        if curve is not None and found.curve is None:
            yield "the curve", each * n * len(curve), lambda f: self._curve(f, curve)
        if request.smallest_eps and SMALLEST_EPS not in found.outcomes:
            yield "the smallest eps", 6 * each * n, self._smallest
        for certifier in missing(found, request.certify):
            images = min(certifier.examples or n, n)
            yield f"the certificate {certifier}", certifier.passes(images), partial(self._certify, certifier)
        for threat in further.missing(found.further, request.also):
            yield f"the threat {threat}", each * n, partial(self._also, threat)
        if request.corruptions and found.corrupted is None:
            yield CORRUPTIONS, EACH * n, self._corrupt

    def _sizes(self, found: Evaluation, request: Request) -> tuple[int, int]:
        """Sample sizes for red flags and transfer attacks: as requested, else as recorded, else as many as fit."""
        n, thorough, adversary = len(self.subject.split), request.thorough, self.adversary
        checked, examined = request.red_flag_examples, request.transfer_attack_examples
        there = found.transferred.n if found.transferred is not None else 0
        if checked is None:
            checked = sizes.red_flag_examples(
                adversary, n, self._examining if examined is None else 0.0, thorough=thorough
            )
            checked = checked if thorough else found.red_flag_examples or checked
        if examined is None:
            examined = sizes.transfer_attack_examples(adversary, n, self._examining, checked, thorough=thorough)
            examined = examined if thorough else there or examined
        right = int((found.outcomes["broken_by"] != CLEAN).sum())
        if not self.subject.is_transferred:
            examined = 0
        return min(checked, right), min(examined, len(self.subject.whole))

    @property
    def _examining(self) -> float:
        model = self.subject.model
        if not self.subject.is_transferred or not isinstance(model, Checkpoint):
            return 0.0
        return transfer_attacks.passes_each(model, self.subject.source)

    def _check(self, found: Evaluation, n: int) -> Evaluation:
        """Red flags on a stratified sample of ``n`` images that are correct when clean."""
        split, module, device = self.subject.split, self.subject.module, self.run.torch_device()
        fate = found.outcomes["broken_by"].to_numpy(str)
        right = torch.from_numpy((fate != CLEAN).nonzero()[0])
        drawn = stratified(split.labels[right], len(split.class_names), n, seed=self.adversary.seed, purpose="checks")
        rows = right[drawn]
        gradients = {str(attack) for attack in self.adversary.attacks if isinstance(attack, BY_GRADIENTS)}
        broken = torch.from_numpy(fate[rows.numpy()] != SURVIVED).to(device)
        by_gradients = torch.tensor([name in gradients for name in fate[rows.numpy()]], device=device)
        with on_device(module, device):
            more = red_flags(
                module, *split.subset(rows).on(device), self.adversary,
                broken=broken, by_gradients=by_gradients, hidden=self.run.quiet,
            )  # fmt: skip
        flags = [*found.flags, *(flag for flag in more.flags if flag not in found.flags)]
        untested = [*(u for u in found.untested if not u.startswith(RAISED)), *more.untested]
        passes = found.passes + more.passes
        return replace(found, flags=flags, untested=untested, passes=passes, red_flag_examples=len(rows))

    def _examine(self, found: Evaluation, n: int) -> Evaluation:
        model, source = self.subject.model, self.subject.source
        assert isinstance(model, Checkpoint)
        transferred = transfer_attacks.examine(model, source, self.subject.whole, self.adversary, self.run, n=n)
        missing = [NO_SOURCE] if source is None and NO_SOURCE not in found.untested else []
        passes, untested = found.passes + transferred.passes, [*found.untested, *missing]
        return replace(found, transferred=transferred, passes=passes, untested=untested)

    def _budgets(self) -> Budgets:
        return Budgets(self.adversary, self.subject.module, self.subject.split, self.run)

    def _curve(self, found: Evaluation, curve: Sequence[str | float]) -> Evaluation:
        reach = self._budgets()
        return replace(found, curve=reach.curve(curve, found.outcomes), passes=found.passes + reach.passes)

    def _certify(self, certifier: Certifier, found: Evaluation) -> Evaluation:
        return certify(found, certifier, self.subject, self.adversary, self.run)

    def _also(self, threat: Threat, found: Evaluation) -> Evaluation:
        made, table = further.attack_within(threat, found.outcomes, self.subject, self.adversary, self.run)
        return replace(found, outcomes=table, further=[*found.further, made], passes=found.passes + made.passes)

    def _corrupt(self, found: Evaluation) -> Evaluation:
        made = corrupt_split(self.subject, self.run, seed=self.adversary.seed)
        return replace(found, corrupted=made, passes=found.passes + made.passes)

    def _making(self) -> float:
        """Seconds that it takes to make all corrupted images, measured on one of them."""
        split = self.subject.split
        return len(split) * seconds_each(split.fetch(torch.arange(1))[0])

    def _smallest(self, found: Evaluation) -> Evaluation:
        reach, table = self._budgets(), found.outcomes.copy()
        table[SMALLEST_EPS] = reach.smallest(table)
        return replace(found, outcomes=table, passes=found.passes + reach.passes)
