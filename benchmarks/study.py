"""Overhead of a study: wall-clock time minus the recorded times of training, transfers and evaluations.

python benchmarks/study.py RECIPE --data NAME=PATH [--set PLACE=VALUE ...] [--scale laptop]

The rest is reading and hashing data, addressing and locking cells, writing, the table, the plots and the claims' intervals.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from common import header, timed

from robust_transfer.run import Run
from robust_transfer.study import load_recipe, run_study
from robust_transfer.study.recipe import cells

WORK = {"sources": "card.json", "results": "card.json", "evaluations": "evaluation.json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--scale")
    given = parser.parse_args()
    places = dict(pair.split("=", 1) for pair in given.data)
    recipe = load_recipe(given.recipe, scale=given.scale, data=places, changes=given.changes)
    header("bookkeeping of a study, one process", recipe=recipe.name, cells=len(cells(recipe)))
    with tempfile.TemporaryDirectory() as folder:
        wall = timed(lambda: run_study(recipe, Path(folder), run=Run(quiet=True)))
        work = {kind: _seconds(Path(folder), kind, file) for kind, file in WORK.items()}
        again = timed(lambda: run_study(recipe, Path(folder), run=Run(quiet=True)))
    rest = wall - sum(work.values())
    print(f"  {wall:.1f} s: " + ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in work.items()))
    print(
        f"  the rest {rest:.1f} s, {100 * rest / wall:.1f} %; started again with nothing to do: {again:.1f} s",
        flush=True,
    )


def _seconds(folder: Path, kind: str, file: str) -> float:
    return sum(float(json.loads(path.read_text())["seconds"]) for path in (folder / kind).glob(f"*/{file}"))


if __name__ == "__main__":
    main()
