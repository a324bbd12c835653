"""Choice: candidates with their accuracies on val, untried ones with reasons, and the selected point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from robust_transfer.config import as_dict, build, config
from robust_transfer.data.weights import IMBALANCED
from robust_transfer.errors import DataError
from robust_transfer.files import write_json
from robust_transfer.statistics.intervals import Proportion
from robust_transfer.statistics.operating_point import OperatingPoint, pareto
from robust_transfer.texts import read_json

CHOICE = "choice.json"
NO_TIME = "no time"  # with which the reason begins, where that is it


@config
class Judged:
    """Contender's accuracies on val: under the first ``attack``, common to all, and under the final one for finalists.

    ``folder``: its run folder while the choice is made. ``seconds``: of making and of attacking it. ``balanced``: clean and
    robust accuracy if each class counts the same, under the best attack that it has met, by which it is judged where
    ``by_balanced`` says so.
    """

    name: str
    source: str
    method: str
    settings: dict[str, Any]
    folder: str
    clean: Proportion
    robust: Proportion
    seconds: float
    final_clean: Proportion | None = None
    final_robust: Proportion | None = None
    balanced: tuple[Proportion, Proportion] | None = None
    by_balanced: bool = False

    @property
    def shares(self) -> tuple[Proportion, Proportion]:
        """Clean and robust accuracy that it is judged by, under the best attack that it has met."""
        if self.by_balanced and self.balanced is not None:
            return self.balanced
        return self.final_clean or self.clean, self.final_robust or self.robust

    @property
    def point(self) -> tuple[float, float]:
        """Values of :attr:`shares`."""
        clean, robust = self.shares
        return clean.value, robust.value


@config
class Rule(OperatingPoint):
    """Selection rule: :class:`OperatingPoint` on the accuracies that contenders are judged by, in words."""

    def choose(self, found: Sequence[Judged]) -> tuple[Judged, str]:
        """Contender, and why in words. Of equals it is the one that was tried first: the simplest."""
        by = "; each class counts the same" if any(one.by_balanced for one in found) else ""
        row, met = self.select([one.point for one in found])
        if self.clean is None:
            most = max(one.point[1] for one in found)
            return found[row], (
                f"the most accurate on val of those with at least {self.keep:g} of the best robust accuracy "
                f"({100 * most:.1f} %){by}"
            )
        if met:
            return found[row], f"the most robust on val of those with a clean accuracy of at least {self.clean:g}{by}"
        return found[row], f"nothing has a clean accuracy of {self.clean:g} on val: this is the most accurate{by}"


def front(found: Sequence[Judged]) -> list[Judged]:
    """Contenders on the Pareto front, the most accurate first; of equals the first."""
    kept: dict[tuple[float, float], Judged] = {}
    for row in sorted(pareto([one.point for one in found])):
        kept.setdefault(found[row].point, found[row])
    return sorted(kept.values(), key=lambda one: one.point, reverse=True)


@config
class Choice:
    """Record of a choice: ``choice.json``.

    ``untried``: by name, why. ``attack`` judged all of ``tried`` on val, ``final_attack`` the finalists (None: there was no
    time). ``limit`` and ``seconds``: what it was to take and took. ``notes`` say what to be careful about. ``imbalance``: how
    many times as many training images the largest class has as the smallest; ``weighting``: as the card says it.
    """

    chosen: str
    why: str
    threat: str
    rule: Rule
    attack: str
    final_attack: str | None
    tried: tuple[Judged, ...]
    untried: dict[str, str]
    data: str
    limit: float
    seconds: float
    notes: tuple[str, ...] = field(default=())
    imbalance: float = 1.0
    weighting: str = ""

    @property
    def best(self) -> Judged:
        """Selected contender."""
        return next(one for one in self.tried if one.name == self.chosen)

    def on_classes(self) -> str | None:
        """Sentence on imbalanced classes and how they count in the choice; None where they are balanced and unweighted."""
        if self.imbalance <= IMBALANCED and not self.best.by_balanced:
            return None
        times = f"the largest class has {self.imbalance:.3g} times as many training images as the smallest"
        if self.best.by_balanced:
            return f"each class counts the same, in training and in the choice (balanced accuracy); {times}"
        how = "images have weights of their own in training" if self.weighting else "each image counts the same"
        return (
            f"the classes are imbalanced: {times}; {how}, and accuracy, which the large classes decide, is what is chosen by "
            "(--class-weights balanced lets each class count the same)"
        )

    def balanced_line(self) -> str | None:
        """Balanced accuracy of what was chosen, where classes are imbalanced."""
        if self.on_classes() is None or self.best.balanced is None:
            return None
        clean, robust = self.best.balanced
        return f"chosen, on val, balanced accuracy: clean {clean}, robust {robust}"

    def lines(self) -> list[str]:
        """Table as text: the front, and the selected contender."""
        best = {one.name for one in front(self.tried)}
        width = max(len(one.name) for one in self.tried)
        of = ", balanced accuracy" if self.best.by_balanced else ""
        rows = [f"chosen: {self.chosen}: {self.why}", *filter(None, (self.on_classes(), self.balanced_line()))]
        rows.append(f"on val, {self.threat}{of}; * is on the front")
        for one in sorted(self.tried, key=lambda each: each.point, reverse=True):
            mark = "*" if one.name in best else " "
            clean, robust = one.shares
            by = self.final_attack if one.final_robust is not None else self.attack
            rows.append(f"{mark} {one.name:<{width}}  clean {clean}  robust {robust} ({by}, n {robust.n})")
        late = [name for name, reason in self.untried.items() if reason.startswith(NO_TIME)]
        rows += [f"not tried: {name}: {reason}" for name, reason in self.untried.items() if name not in late]
        if late:
            rows.append(f"not tried, for want of time: {len(late)} more (--time-limit; {CHOICE} names them)")
        return [*rows, *(f"note: {note}" for note in self.notes)]

    def save(self, folder: Path) -> None:
        """Write ``choice.json``."""
        write_json(folder / CHOICE, as_dict(self))


def load_choice(folder: Path) -> Choice:
    """Read ``choice.json``; raises :class:`DataError` for a missing or foreign file."""
    path = Path(folder) / CHOICE
    try:
        return build(Choice, read_json(path), str(path))
    except FileNotFoundError:
        raise DataError(f"there is no {path}: `robust-transfer choose` writes it") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
