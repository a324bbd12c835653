"""Operating points: of several pairs of clean and robust accuracy, the Pareto front, and the one that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from robust_transfer.config import config
from robust_transfer.errors import ConfigError

Pair = tuple[float, float]  # clean and robust accuracy


@config
class OperatingPoint:
    """Point to take: the most accurate of those that keep a share ``keep`` of the most robust one's robust accuracy; where
    ``clean`` is given, the most robust of those that are at least so accurate.
    """

    keep: float = 0.9
    clean: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1 or (self.clean is not None and not 0 < self.clean < 1):
            raise ConfigError("keep and clean are shares between 0 and 1")

    def select(self, points: Sequence[Pair], most: float | None = None) -> tuple[int, bool]:
        """Row of the point, and whether it is what was asked for. Of equals it is the first.

        ``most``: robust accuracy of which a share is to be kept (default: the highest of all points). Where no point is
        accurate or robust enough, it is the most accurate, or the most robust.
        """
        rows = range(len(points))
        if self.clean is not None:
            enough = [row for row in rows if points[row][0] >= self.clean]
            if enough:
                return max(enough, key=lambda row: points[row][::-1]), True
            return max(rows, key=lambda row: points[row]), False
        least = self.keep * (max(robust for _, robust in points) if most is None else most)
        enough = [row for row in rows if points[row][1] >= least]
        if enough:
            return max(enough, key=lambda row: points[row]), True
        return max(rows, key=lambda row: points[row][::-1]), False


def pareto(points: Sequence[Pair]) -> list[int]:
    """Rows that no other point beats in one accuracy and equals at least in the other, in order of clean accuracy.

    Equal points are all on it.
    """
    found = list[int]()
    for row in sorted(range(len(points)), key=lambda row: points[row], reverse=True):
        last = points[found[-1]] if found else None
        if last is None or points[row][1] > last[1] or points[row] == last:
            found.append(row)
    return found[::-1]
