"""A suite's verdict against AutoAttack's, image by image, and the contribution of each of its attacks.

python benchmarks/verdict.py --data D --record docs/reference.jsonl [--suite strong] [--cases three,foreign]

AutoAttack's verdicts are read from the record, which `reference.py` writes; so both are of the same images. Passes are
forward-equivalent image passes, seconds those of this process's own CPU time with one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import strength_cases
import torch
from cases import Case
from common import header
from reference import Found, recorded

from robust_transfer.attacks import Attack
from robust_transfer.attacks.naming import without_source


@dataclass(frozen=True)
class Ours:
    """Survivors after each attack of a suite, by row, and its cost."""

    after: dict[str, frozenset[int]]
    passes: dict[str, int]
    seconds: float

    @property
    def standing(self) -> frozenset[int]:
        return list(self.after.values())[-1]


def run(case: Case, attacks: Sequence[Attack], seed: int) -> Ours:
    """Run every attack on the survivors of the earlier ones, in float32, on the network itself."""
    rows, after, passes, begun = torch.arange(len(case.x)), {}, {}, time.process_time()
    for attack in attacks:
        if not len(rows):
            break
        result = attack(case.model, case.x[rows], case.labels[rows], rows, case.threat, seed=seed)
        rows = rows[~result.broken]
        after[str(attack)], passes[str(attack)] = frozenset(rows.tolist()), result.passes
    return Ours(after, passes, time.process_time() - begun)


def compare(case: Case, theirs: dict[int, Found], ours: list[Ours]) -> tuple[float, float]:
    """Print a case; return the differences of robust accuracy, in points, and of the passes, as a share."""
    n, first = len(case.x), theirs[min(theirs)]
    counts = sorted(len(found.standing) for found in theirs.values())
    mean = sum(len(one.standing) for one in ours) / len(ours)
    both = first.standing & ours[0].standing
    passes = sum(sum(one.passes.values()) for one in ours) / len(ours)
    seconds = sum(one.seconds for one in ours) / len(ours)
    print(
        f"{case.name}: n {n}; AutoAttack {len(first.standing)} stand ({100 * len(first.standing) / n:.2f} %; over "
        f"{len(theirs)} seeds {counts[0]} to {counts[-1]}), {first.passes / n:.0f} passes an image, {first.seconds:.0f} s\n"
        f"  ours {', '.join(str(len(one.standing)) for one in ours)} ({100 * mean / n:.2f} %), {passes / n:.1f} passes an "
        f"image ({100 * passes / first.passes:.2f} %), {seconds:.1f} s ({first.seconds / seconds:.1f} x)\n"
        f"  stand against both {len(both)}; AutoAttack alone breaks {len(ours[0].standing - first.standing)}, "
        f"ours alone {len(first.standing - ours[0].standing)}",
        flush=True,
    )
    for name, left in ours[0].after.items():
        print(f"    {name:60} {len(left):5d} stand, {ours[0].passes[name] / n:7.1f} passes an image", flush=True)
    return 100 * (mean - sum(counts) / len(counts)) / n, passes / first.passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    strength_cases.arguments(parser)
    parser.add_argument("--cases", default=",".join(strength_cases.VERDICT))
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--suite", default="strong")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--record", type=Path, required=True)
    given = parser.parse_args()
    attacks = [one for one in without_source(given.suite) if one.precision == "auto"]
    header(f"{given.suite} beside AutoAttack at {strength_cases.THREAT}", seeds=given.seeds)
    differences: list[tuple[float, float]] = []
    for name in given.cases.split(","):
        case, theirs = recorded(strength_cases.case(name, given, given.examples), given.record)
        if not theirs:
            print(f"{name}: no verdict of AutoAttack in {given.record}", flush=True)
            continue
        differences.append(compare(case, theirs, [run(case, attacks, seed) for seed in range(given.seeds)]))
    if differences:
        points, shares = zip(*differences, strict=True)
        print(
            f"on average {sum(points) / len(points):+.3f} points, {100 * sum(shares) / len(shares):.2f} % of the passes"
        )


if __name__ == "__main__":
    main()
