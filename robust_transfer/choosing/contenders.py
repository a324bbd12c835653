"""Contenders: a strategy from a source, in the order in which they are tried."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

from robust_transfer.data import Task
from robust_transfer.strategies import Frontier, LinearProbe, Strategy

# What is never tried, and why: said with every choice.
LEFT_OUT = {
    "fine-tune, lp-ft, last-blocks": "training weights on natural images alone gives the robustness away",
    "interpolate, merge, mix, soup, rift, l2-sp, delta, norm-only, bitfit, lora, neft": (
        "nobody has compared them with lwf here yet"
    ),
    "lwf at several depths, by directions or with a schedule; linear-probe with penalty=shift": (
        "nobody has compared them with the plain ones here yet"
    ),
    "mlp-head": "it moved no front that was measured (docs/results.md)",
    "adversarial, roli, twins, autolora, ard, rslad": "they train on adversarial examples, which takes several times as long",
}
L2 = (1.0, 0.3, 0.1, 0.03, 0.01)
# Probes that read the source on a grid of cells and over mirror images, by grid and L2, the most telling first.
READINGS = ((4, 3.0), (4, 10.0), (2, 0.3))
# LwF from a probe of this L2 at this strength, the most telling first.
LWF = tuple(sorted(product((0.1, 1.0), (0.3, 1.0, 3.0)), key=lambda pair: (pair[1] != 1.0, pair[0])))


@dataclass(frozen=True)
class Contender:
    """``strategy`` from the source called ``source``. ``shares``: it reuses the features of the first probe."""

    source: str
    label: str
    strategy: Strategy
    shares: bool = False

    @property
    def name(self) -> str:
        """Display name."""
        return f"{self.source}: {self.label}"

    @property
    def folder(self) -> str:
        """Folder name; a source's name may be a path."""
        return re.sub(r"[^A-Za-z0-9.=-]+", "-", self.name).strip("-.")[-100:]

    def passes(self, task: Task) -> float:
        """Forecast of the forward-equivalent image passes of training it."""
        return 0.0 if self.shares else self.strategy.forecast(task)


def first_look(source: str) -> Contender:
    """Probe for a first judgement of a source, its L2 chosen by log-loss on val."""
    return Contender(source, "linear-probe, l2 by log-loss", LinearProbe())


def closer_look(source: str) -> list[Contender]:
    """Probes on a grid, which gained most for their cost; probes along the path; LwF with the settings of :class:`Frontier`."""
    readings = [
        Contender(
            source,
            f"linear-probe, grid = {grid}, mirrored, l2 = {l2:g}",
            LinearProbe(l2=l2, grid=grid, mirror=True),
        )
        for grid, l2 in READINGS
    ]
    probes = [Contender(source, f"linear-probe, l2 = {l2:g}", LinearProbe(l2=l2), shares=True) for l2 in L2]
    lwf = [
        Contender(source, f"lwf, l2 = {l2:g}, strength = {strength:g}", Frontier().lwf(l2, strength))
        for l2, strength in LWF
    ]
    return readings + probes + lwf
