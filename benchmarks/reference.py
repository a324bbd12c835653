"""AutoAttack's verdicts, image by image, kept in a file: they take hours and need no repeating.

python benchmarks/reference.py --case bundled --examples 1000 --record docs/reference.jsonl --data D
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import strength_cases
import torch
from cases import Case, quiet

from robust_transfer.attacks import PyAutoAttack
from robust_transfer.checkpoint import weights_hash
from robust_transfer.environment import environment


@dataclass(frozen=True)
class Found:
    """Surviving rows; forward-equivalent image passes; CPU seconds of the process."""

    standing: frozenset[int]
    passes: int
    seconds: float

    def and_then(self, line: dict[str, Any]) -> Found:
        """Results together with another block's."""
        left = self.standing | set(line["standing"])
        return Found(left, self.passes + line["passes"], self.seconds + line["seconds"])


def reference(case: Case, seed: int, record: Path | None) -> Found:
    """AutoAttack's standard version in blocks of ``case.batch`` images; those that ``record`` has are not attacked again."""
    found, told = Found(frozenset(), 0, 0.0), False
    for rows in torch.arange(len(case.x)).split(case.batch):
        block = replace(case, x=case.x[rows], labels=case.labels[rows])
        key = {**_about(case), "seed": seed, "from": int(rows[0]), "n": len(rows), "images": block.digest}
        line = next((line for line in _read(record) if line["key"] == key), None)
        if line is None:
            begun = time.process_time()
            with quiet():
                result = PyAutoAttack()(block.model, block.x, block.labels, block.ids, block.threat, seed=seed)
            line = {"key": key, "standing": rows[~result.broken].tolist(), "passes": result.passes}
            line |= {"seconds": round(time.process_time() - begun, 1), "torch": torch.__version__}
            line |= {"cpu": environment()["hardware"]["cpu"], "threads": torch.get_num_threads()}
            if record is not None:
                with record.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            told = True
        found = found.and_then(line)
        if told:
            print(
                f"  {case.name}, seed {seed}: {len(found.standing)} of {int(rows[-1]) + 1} stand, {found.seconds:.0f} s",
                flush=True,
            )
    return found


def recorded(case: Case, record: Path) -> tuple[Case, dict[int, Found]]:
    """Case with the images that the longest recorded run has, and what was found, by seed; shorter runs are left aside."""
    lines = [line for line in _read(record) if {name: line["key"].get(name) for name in _about(case)} == _about(case)]
    ends = {}
    for seed in {line["key"]["seed"] for line in lines}:
        own, end = {line["key"]["from"]: line["key"]["n"] for line in lines if line["key"]["seed"] == seed}, 0
        while end in own:
            end += own[end]
        ends[seed] = end
    n = min(len(case.x), max(ends.values(), default=0))
    some = replace(case, x=case.x[:n], labels=case.labels[:n])
    return some, {seed: reference(some, seed, record) for seed, end in ends.items() if end >= n}


def _about(case: Case) -> dict[str, str]:
    return {"case": case.name, "weights": weights_hash(case.model), "threat": str(case.threat)}


def _read(record: Path | None) -> list[dict[str, Any]]:
    lines = record.read_text().splitlines() if record is not None and record.exists() else []
    return [json.loads(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    strength_cases.arguments(parser)
    parser.add_argument("--case", choices=strength_cases.VERDICT, required=True)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, required=True)
    given = parser.parse_args()
    reference(strength_cases.case(given.case, given, given.examples), given.seed, given.record)


if __name__ == "__main__":
    main()
