"""Schedule of a study: its makespan if work is handed out to workers as by the dispatch."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence


def makespan(trained: Mapping[str, float], work: Sequence[tuple[str, float]], workers: int) -> float:
    """Seconds until ``work`` is done: independent pieces, each with its source and its own seconds.

    ``trained``: seconds of the sources to be trained. These come first, and pieces that wait for one are last in the
    queue once it is there. ``workers`` take the next piece whenever they are free.
    """
    waiting: dict[str, list[float]] = {name: [] for name in trained}
    ready = deque[tuple[float, str]]((seconds, name) for name, seconds in trained.items())
    for source, seconds in work:
        if source in waiting:
            waiting[source].append(seconds)
        else:
            ready.append((seconds, ""))
    now, busy = 0.0, list[tuple[float, int, str]]()
    begun = 0  # of two that end at once the one that was begun first
    while ready or busy:
        while ready and len(busy) < workers:
            seconds, source = ready.popleft()
            heapq.heappush(busy, (now + seconds, begun, source))
            begun += 1
        now, _, source = heapq.heappop(busy)
        ready.extend((seconds, "") for seconds in waiting.pop(source, []))
    return now
