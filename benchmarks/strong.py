"""Our suite ``strong`` against AutoAttack itself, whose seed-to-seed spread is the yardstick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import metadata, util
from pathlib import Path
from statistics import median

from cases import Case, engine_for
from common import header, measured
from reference import reference as by_image
from suites import Verdict, cascade
from table import Row

import robust_transfer as rt
from robust_transfer.attacks import parse_attack


def strong(case: Case, seeds: int, run: rt.Run, suite: str, record: Path | None) -> list[Row]:
    """CPU seconds (on a CPU) and verdicts of both, a seed after the other, in turn."""
    what = f"{suite} beside AutoAttack at {case.threat}, {len(case.x)} images, {case.name}, {case.model.num_classes} classes"
    if not util.find_spec("pyautoattack"):
        print(f"{what}: pyautoattack is not installed: left out", flush=True)
        return []
    header(what, seeds=seeds, pyautoattack=metadata.version("pyautoattack"))
    engine = engine_for(case, run, parse_attack(suite))
    theirs = Contender(lambda seed: reference(case, seed, record))
    ours = Contender(lambda seed: cascade(case, suite, seed, engine))
    rows = measured(what, {"AutoAttack": theirs, suite: ours}, seeds, unit="CPU s")
    shares = [100 * verdict.robust for verdict in theirs.found]
    print(f"  AutoAttack's spread: {min(shares):.2f} to {max(shares):.2f} %", flush=True)
    return [replace(rows["AutoAttack"], note=theirs.note), replace(rows[suite], note=ours.note)]


class Contender:
    """One of both, on another seed each time that it is called."""

    def __init__(self, attack: Callable[[int], Verdict]) -> None:
        self.attack, self.found = attack, list[Verdict]()

    def __call__(self) -> float:
        verdict = self.attack(len(self.found))
        self.found.append(verdict)
        print(f"  {100 * verdict.robust:.2f} % stand: {verdict.told}", flush=True)
        return verdict.seconds

    @property
    def note(self) -> str:
        """Number of surviving images, the median over the seeds."""
        return f"{100 * median(verdict.robust for verdict in self.found):.2f} % stand"


def reference(case: Case, seed: int, record: Path | None) -> Verdict:
    """AutoAttack's verdict; blocks of images that ``record`` has are not attacked again."""
    found = by_image(case, seed, record)
    return Verdict(len(found.standing) / len(case.x), found.seconds, found.passes, f"AutoAttack, seed {seed}")
