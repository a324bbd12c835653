"""Suites of attacks: cost and strength of each on the same images, attack by attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from cases import Case, engine_for, quiet
from common import header, measured
from table import Row

import robust_transfer as rt
from robust_transfer.attacks import parse_attack
from robust_transfer.engine import Engine
from robust_transfer.hardware import seconds


@dataclass(frozen=True)
class Verdict:
    """Robust accuracy after a suite, its seconds, forward-equivalent image passes, and what stood after each attack.

    On the CPU seconds are those of this process alone, since what takes hours seldom has a machine to itself.
    """

    robust: float
    seconds: float
    passes: int
    told: str


def suites(case: Case, run: rt.Run, repeats: int) -> list[Row]:
    """Cost and strength of each suite."""
    what = f"suites at {case.threat}, {len(case.x)} images, {case.name}, {case.model.num_classes} classes"
    header(what, repeats=repeats)
    engine, found = engine_for(case, run, parse_attack("strong")), dict[str, Verdict]()

    def attack(suite: str) -> float:
        found[suite] = cascade(case, suite, 0, engine)
        print(f"  {found[suite].told}", flush=True)
        return found[suite].seconds

    tasks: dict[str, Callable[[], float]] = {suite: partial(attack, suite) for suite in ("pgd-20", "quick", "strong")}
    return [
        replace(
            row, note=f"{100 * found[name].robust:.2f} % stand, {found[name].passes / len(case.x):.0f} passes an image"
        )
        for name, row in measured(what, tasks, repeats, unit="CPU s").items()
    ]


def cascade(case: Case, suite: str, seed: int, engine: Engine) -> Verdict:
    """Run a suite, each attack on the survivors of the earlier ones; without attacks that need a source or repeat float32."""
    device = case.x.device
    rows, told, passes, whole = torch.arange(len(case.x), device=device), [], 0, 0.0
    for attack in parse_attack(suite):
        if attack.needs_source or (attack.precision == "float32" and engine.dtype is torch.float32) or not len(rows):
            continue
        begun = seconds(device)
        with quiet():
            result = attack(case.model, case.x[rows], case.labels[rows], rows, case.threat, seed=seed, engine=engine)
        rows, passes = rows[~result.broken], passes + result.passes
        share, took = 100 * len(rows) / len(case.x), seconds(device) - begun
        whole += took
        told.append(f"{attack} {share:.2f} ({took:.0f} s, {result.passes} passes)")
    return Verdict(len(rows) / len(case.x), whole, passes, ", ".join(told))
