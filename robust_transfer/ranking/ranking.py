"""Ranking: sources in the order of what is predicted for them, and what the prediction is made of."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from robust_transfer.config import config
from robust_transfer.statistics.intervals import Proportion

By = Literal["robust", "clean"]


@config
class Shift:
    """Shift of a source's features under attack on its own images, and the robust accuracy that it predicts.

    ``median`` over ``n`` images, in the units of the features; ``allowed``: the median distance of the target's val images from
    the nearest boundary of the head, negative where more than half of them are misclassified.
    """

    median: float
    allowed: float
    n: int
    robust: float


@config
class Own:
    """Accuracies of a source on its own data, as its card states them; None where it does not."""

    clean: float | None = None
    robust: float | None = None


@config
class Ranked:
    """Prediction for one source. ``clean`` and ``log_loss``: of a probe on a sample of train, on a sample of val.

    ``robust``: share of these val images that stand by first order. ``shift``: None where the source's own images are not
    at hand and no shift is known. ``l2``: of the probe.
    """

    name: str
    clean: Proportion
    log_loss: float
    logme: float
    robust: Proportion
    shift: Shift | None
    own: Own
    l2: float
    seconds: float


@config
class Ranking:
    """Record of a ranking, the best source first. ``n_train``, ``n_val``: images of the samples. No image was attacked."""

    data: str
    threat: str
    by: By
    sources: tuple[Ranked, ...]
    unusable: dict[str, str]
    n_train: int
    n_val: int
    seed: int
    seconds: float
    notes: tuple[str, ...] = field(default=())

    @property
    def best(self) -> Ranked:
        """Source that is predicted to be the best."""
        return self.sources[0]

    def headline(self) -> str:
        """First line: the source to take, with what is predicted for it."""
        best = self.best
        of = f"first of {len(self.sources)}: " if len(self.sources) > 1 else ""
        return f"{of}{best.name}: predicted clean {best.clean}, robust {best.robust} at {self.threat}"

    def __str__(self) -> str:
        return "\n".join([self.headline(), *self.table(), *self.remarks()])

    def table(self) -> list[str]:
        """Row for each source."""
        width = max(6, *(len(one.name) for one in self.sources))
        head = f"{'source':<{width}}  clean  robust  by shift  LogME   log-loss  own clean  own robust"
        rows = [
            f"{one.name:<{width}}  {100 * one.clean.value:5.1f}  {100 * one.robust.value:6.1f}  "
            f"{_share(one.shift.robust if one.shift else None):>8}  {one.logme:6.3f}  {one.log_loss:8.3f}  "
            f"{_share(one.own.clean):>9}  {_share(one.own.robust):>10}"
            for one in self.sources
        ]
        return [head, *rows]

    def remarks(self) -> list[str]:
        """Sentences on what the table shows."""
        return [
            f"predicted, not measured: by a probe on {self.n_train} images of train and {self.n_val} of val, none attacked",
            f"robust: margins of these val images to first order; ordered by {self.by} accuracy; own: as the card states it",
            *(f"cannot be used: {name}: {why}" for name, why in self.unusable.items()),
            *(f"note: {note}" for note in self.notes),
        ]


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f}"
