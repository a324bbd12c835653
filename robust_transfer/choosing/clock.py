"""Time limit of a choice: time left, and forecasts from similar work."""

from __future__ import annotations

import time

CAUTION = 1.2  # forecasts are rough: what is to fit has to fit with so much to spare


class Clock:
    """``seconds`` from now on. Paces are seconds per image pass, one for each kind of work and source."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began = seconds, time.perf_counter()
        self._paces: dict[tuple[str, str], float] = {}

    @property
    def spent(self) -> float:
        """Seconds spent."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds left; negative after the limit."""
        return self.seconds - self.spent

    def learn(self, work: str, source: str, passes: float, seconds: float) -> None:
        """Record that ``passes`` of this kind of work took ``seconds``. The latest pace counts: other load changes."""
        if passes > 0:
            self._paces[work, source] = seconds / passes

    def forecast(self, work: str, source: str, passes: float) -> float:
        """Seconds for so many passes; by the other kind's pace if this kind is unknown, 0 if none is known."""
        known = {kind: pace for (kind, of), pace in self._paces.items() if of == source}
        return CAUTION * passes * known.get(work, max(known.values(), default=0.0))
