"""Stages of a suite, chosen greedily: what breaks most of the images that still stand, for an image pass.

python benchmarks/stages.py --data D --log stages.jsonl [--cases fast-residual] [--examples 1000] [--choose]

Each candidate is run alone, once a seed, on the images that a first, cheap attack has left of each network, none of which
verdicts are reported on; what it leaves, image by image, and the passes it took are kept in the log, so that a run that was
cut off goes on. Then stages are picked one at a time (Liu et al. 2023, AutoAE): those that break the most standing images for
an image pass. What a stage takes of an image that it does not break is known from the log; of one that it breaks, on average.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import strength_cases
import torch
from cases import Case

from robust_transfer.attacks import parse_attack
from robust_transfer.attacks.base import SURVIVAL_SHARE
from robust_transfer.checkpoint import weights_hash

FIRST = "pgd-10"
CANDIDATES = [
    "apgd-30",
    "apgd-30:loss=margin",
    "apgd-30:loss=dlr",
    "apgd-30:loss=probability",
    "apgd-t-50:trial=5,finalists=1",
    "apgd-t-100:targets=4,loss=probability,trial=5,finalists=1",
    "apgd-t-30:targets=1,scanned=9",
    "apgd-t-30:targets=2,scanned=9",
    "apgd-t-30:targets=1,scanned=9,loss=margin",
    "apgd-t-30:targets=1,scanned=9,loss=probability",
    *(
        f"pgd-{steps}:step={step},schedule=cosine,loss={loss}"
        for steps in (20, 30)
        for step in ("0.5", "1.0", "2.0")
        for loss in ("ce,then=margin", "ce,then=probability", "probability,then=margin", "margin", "probability", "ce")
        if steps == 30 or step == "1.0"
    ),
    "pgd-60:step=1.0,schedule=cosine,loss=ce,then=margin",
    "square-50",
]
CEILING = [
    "apgd-t-100",
    "apgd-100:restarts=5,loss=dlr",
    "pgd-100:step=1.0,schedule=cosine,loss=ce,then=margin,restarts=5",
]


@dataclass(frozen=True)
class Entry:
    """Result of a candidate: its survivors among the rows ``tried``, and its image passes."""

    case: str
    attack: str
    seed: int
    tried: frozenset[int]
    left: frozenset[int]
    passes: int

    @property
    def a_survivor(self) -> float:
        """Passes per surviving image."""
        return sum(3.0 + (one.passes - 3.0) / SURVIVAL_SHARE for one in parse_attack(self.attack))

    @property
    def a_break(self) -> float:
        """Passes per broken image, on average."""
        broken = len(self.tried) - len(self.left)
        return max(self.passes - len(self.left) * self.a_survivor, 0.0) / max(broken, 1)


def survey(case: Case, attacks: Iterable[str], seeds: int, log: Path) -> list[Entry]:
    """Every attack alone on what :data:`FIRST` leaves of the case; what ``log`` has is not run again."""
    known = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    about = {"case": case.name, "weights": weights_hash(case.model), "images": case.digest}

    def run(name: str, seed: int, rows: torch.Tensor) -> Entry:
        key = {**about, "attack": name, "seed": seed}
        found = next((line for line in known if line["key"] == key), None)
        if found is None:
            begun, (attack,) = time.process_time(), parse_attack(name)
            result = attack(case.model, case.x[rows], case.labels[rows], rows, case.threat, seed=seed)
            left = rows[~result.broken].tolist()
            found = {"key": key, "left": left, "passes": result.passes, "seconds": time.process_time() - begun}
            with log.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(
                f"  {case.name:18} {name:55} {seed}: {len(left)} of {len(rows)}, {found['seconds']:.0f} s", flush=True
            )
        tried = frozenset(rows.tolist())
        return Entry(case.name, name, seed, tried, frozenset(found["left"]), found["passes"])

    first = run(FIRST, 0, torch.arange(len(case.x)))
    hard = torch.tensor(sorted(first.left))
    return [run(name, seed, hard) for name in attacks for seed in range(seeds)]


def choose(entries: list[Entry], n: int) -> list[tuple[str, float, float]]:
    """Stages in order, each with the images that it breaks of those that stand then and the passes that it takes."""
    runs: dict[str, list[Entry]] = {}
    for entry in entries:
        runs.setdefault(entry.attack, []).append(entry)
    standing = {(e.case, e.seed): e.tried for e in entries}

    def worth(name: str) -> tuple[float, float]:
        gains = passes = 0.0
        for entry in runs[name]:
            now = standing[entry.case, entry.seed]
            stay = len(now & entry.left)
            gains += len(now) - stay
            passes += stay * entry.a_survivor + (len(now) - stay) * entry.a_break
        return gains, passes

    chosen: list[tuple[str, float, float]] = []
    while len(chosen) < n:
        worths = {name: worth(name) for name in runs if name not in [one for one, _, _ in chosen]}
        name = max(worths, key=lambda each: (worths[each][0] / max(worths[each][1], 1.0), -worths[each][1]))
        if not worths[name][0]:
            break
        chosen.append((name, *worths[name]))
        for entry in runs[name]:
            standing[entry.case, entry.seed] &= entry.left
    return chosen


def table(entries: list[Entry]) -> None:
    """Survivors and cost of each attack alone, and the union of all breaks."""
    for name in dict.fromkeys(entry.attack for entry in entries):
        own = [entry for entry in entries if entry.attack == name]
        left = "  ".join(f"{e.case} {len(e.left)}" for e in own)
        print(f"  {name:58} {own[0].a_survivor:6.0f} passes a survivor; {left}")
    for case in dict.fromkeys(entry.case for entry in entries):
        tried = next(entry.tried for entry in entries if entry.case == case)
        union = frozenset.intersection(*(entry.left for entry in entries if entry.case == case))
        print(f"  all together: {case} {len(union)} of {len(tried)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    strength_cases.arguments(parser)
    parser.add_argument("--cases", default=",".join(strength_cases.CHOICE))
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--attacks", nargs="*", default=CANDIDATES)
    parser.add_argument("--stages", type=int, default=5, help="how many to choose")
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    entries: list[Entry] = []
    for name in given.cases.split(","):
        entries += survey(strength_cases.case(name, given, given.examples), given.attacks, given.seeds, given.log)
    table(entries)
    print("chosen, one at a time, by images broken for a pass:")
    for name, gain, passes in choose(entries, given.stages):
        print(f"  {name:58} breaks {gain:.0f} at {passes:.0f} passes")


if __name__ == "__main__":
    main()
