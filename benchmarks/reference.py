"""AutoAttack's verdicts, image by image, kept in a file: they take hours and need no repeating.

python benchmarks/reference.py --case bundled --examples 1000 --record docs/reference.jsonl --data D --networks N
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
    """What stands, by row; forward-equivalent image passes; CPU seconds of the process."""

    standing: frozenset[int]
    passes: int
    seconds: float


def reference(case: Case, seed: int, record: Path) -> Found:
    """AutoAttack's standard version in blocks of ``case.batch`` images; those that ``record`` has are not attacked again."""
    known = _read(record)
    weights, hardware = weights_hash(case.model), environment()["hardware"]["cpu"]
    key = {"case": case.name, "weights": weights, "threat": str(case.threat), "seed": seed}
    standing: set[int] = set()
    passes, seconds = 0, 0.0
    for start in range(0, len(case.x), case.batch):
        rows = torch.arange(start, min(start + case.batch, len(case.x)))
        block = replace(case, x=case.x[rows], labels=case.labels[rows])
        own = {**key, "from": start, "n": len(rows), "images": block.digest}
        found = next((line["found"] for line in known if line["key"] == own), None)
        if found is None:
            begun = time.process_time()
            with quiet():
                result = PyAutoAttack()(block.model, block.x, block.labels, block.ids, block.threat, seed=seed)
            left = rows[~result.broken].tolist()
            found = {"standing": left, "passes": result.passes, "seconds": round(time.process_time() - begun, 1)}
            found |= {"torch": torch.__version__, "cpu": hardware, "threads": torch.get_num_threads()}
            with record.open("a") as file:
                file.write(json.dumps({"key": own, "found": found}) + "\n")
        standing, passes, seconds = (
            standing | set(found["standing"]),
            passes + found["passes"],
            seconds + found["seconds"],
        )
        print(f"  {case.name}, seed {seed}: {len(standing)} of {int(rows[-1]) + 1} stand, {seconds:.0f} s", flush=True)
    return Found(frozenset(standing), passes, seconds)


def _read(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


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
