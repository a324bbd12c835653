"""Choice: candidates with their accuracies on val, untried ones with reasons, and the selected point."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from robust_transfer.config import as_dict, build, config
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.files import write_json
from robust_transfer.statistics.intervals import Proportion

CHOICE = "choice.json"
NO_TIME = "no time"  # with which the reason begins, where that is it


@config
class Judged:
    """Contender's accuracies on val: under the first ``attack``, common to all, and under the final one for finalists.

    ``folder``: its run folder while the choice is made. ``seconds``: of training and attacking it.
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

    @property
    def shares(self) -> tuple[Proportion, Proportion]:
        """Clean and robust accuracy, the latter under the strongest attack run on it."""
        return self.final_clean or self.clean, self.final_robust or self.robust

    @property
    def point(self) -> tuple[float, float]:
        """Values of :attr:`shares`."""
        clean, robust = self.shares
        return clean.value, robust.value


@config
class Rule:
    """Selection rule: the most accurate point with at least a share ``keep`` of the highest robust accuracy.

    Where ``clean`` is given, the most robust point with at least that clean accuracy.
    """

    keep: float = 0.9
    clean: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1 or (self.clean is not None and not 0 < self.clean < 1):
            raise ConfigError("keep and clean are shares between 0 and 1")

    def choose(self, found: Sequence[Judged]) -> tuple[Judged, str]:
        """Selected contender, and the reason in words. Ties go to the first one tried: the simplest."""
        if self.clean is not None:
            enough = [one for one in found if one.point[0] >= self.clean]
            if enough:
                return max(enough, key=lambda one: one.point[::-1]), (
                    f"the most robust on val of those with a clean accuracy of at least {self.clean:g}"
                )
            return max(found, key=lambda one: one.point), (
                f"nothing has a clean accuracy of {self.clean:g} on val: this is the most accurate"
            )
        most = max(one.point[1] for one in found)
        enough = [one for one in found if one.point[1] >= self.keep * most]
        return max(enough, key=lambda one: one.point), (
            f"the most accurate on val of those with at least {self.keep:g} of the best robust accuracy ({100 * most:.1f} %)"
        )


def front(found: Sequence[Judged]) -> list[Judged]:
    """Pareto front: points that no other beats in one accuracy and equals in the other (of equals the first)."""
    kept: list[Judged] = []
    for one in sorted(found, key=lambda each: each.point, reverse=True):
        if not kept or one.point[1] > kept[-1].point[1]:
            kept.append(one)
    return kept


@config
class Choice:
    """Record of a choice: ``choice.json``.

    ``untried``: reasons by name. ``attack`` was run on all of ``tried`` on val, ``final_attack`` on the finalists
    (None: not enough time). ``limit`` and ``seconds``: time limit and time taken. ``notes``: caveats.
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

    @property
    def best(self) -> Judged:
        """Selected contender."""
        return next(one for one in self.tried if one.name == self.chosen)

    def lines(self) -> list[str]:
        """Table as text: the front, and the selected contender."""
        best = {one.name for one in front(self.tried)}
        width = max(len(one.name) for one in self.tried)
        rows = [f"chosen: {self.chosen}: {self.why}", f"on val, {self.threat}; * is on the front"]
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
        return build(Choice, json.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        raise DataError(f"there is no {path}: `robust-transfer choose` writes it") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
