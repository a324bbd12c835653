"""Hostile files, servers and names, given to the commands in processes that are limited and watched.

python campaigns/hostile.py [--quick] [--limit N | --limit FAMILY=N,...] [--record]
"""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import pkgutil
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from hostile_case import FAULTS, Case, Outcome
from hostile_child import MEMORY, tried
from record import Count, Record

SEED = 0
FAMILIES = ("servers", "names", "tables", "archives", "images", "checkpoints", "texts", "pickles")
QUICK = 25  # cases of each family


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} cases of each family; no record is written")
    parser.add_argument(
        "--limit", help="so many cases, drawn from each family or from those named; no record is written"
    )
    parser.add_argument("--minutes", type=float, help="stop after so long; the record counts what was tried until then")
    parser.add_argument("--record", action="store_true", help="write one all the same")
    asked = parser.parse_args()
    chosen = gathered(limits(asked.limit or (str(QUICK) if asked.quick else None)))
    preload()
    outcomes, begun = list[Outcome](), time.monotonic()
    with tempfile.TemporaryDirectory() as top:
        for outcome in tried(chosen, Path(top)):
            outcomes.append(outcome)
            if asked.minutes is not None and time.monotonic() - begun > 60 * asked.minutes:
                break
            if len(outcomes) % 50 == 0:
                print(f"{len(outcomes)} of {len(chosen)}", flush=True)
            if outcome.fault:
                print(f"{outcome.kind}: {outcome.case.family}: {outcome.case.name}\n  {outcome.said}", flush=True)
    record = counted(outcomes)
    for count in record.counts:
        print(f"{count.what}: {count.value} {count.unit}".rstrip())
    if asked.record or (asked.limit is None and not asked.quick):
        print(f"wrote {record.write()}")
    sys.exit(1 if record.failed else 0)


def limits(asked: str | None) -> dict[str, int | None]:
    """Families and the number of cases of each, None for all, from ``25`` or ``pickles=400,names=40``."""
    if asked is None or asked.isdecimal():
        return dict.fromkeys(FAMILIES, None if asked is None else int(asked))
    return {family: int(number) for family, _, number in (part.partition("=") for part in asked.split(","))}


def gathered(families: Mapping[str, int | None], seed: int = SEED) -> list[Case]:
    """Cases of these families, at most so many of each, drawn at random."""
    found = list[Case]()
    for family, limit in families.items():
        module: ModuleType = importlib.import_module(f"hostile_{family}")
        made = list(module.cases(random.Random(f"{family} {seed}")))
        found += made if limit is None or limit >= len(made) else random.Random(seed).sample(made, limit)
    random.Random(seed).shuffle(found)
    return found


def preload() -> None:
    """Import all that a command would, so that a forked process has it."""
    import robust_transfer

    warnings.simplefilter("ignore")
    os.environ.setdefault("COLUMNS", "200")
    sys.dont_write_bytecode = True
    for module in pkgutil.walk_packages(robust_transfer.__path__, "robust_transfer."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError as error:  # of an extra that is not installed
                logging.getLogger(__name__).info("%s: %s", module.name, error)
    import typer

    from robust_transfer.cli import base

    command = typer.main.get_command(base.app)  # which takes longer to make than most cases to run
    base.app = lambda **how: command.main(**how)  # type: ignore[assignment]
    gc.collect()
    gc.freeze()  # a collection in a forked process would touch, and so copy, all of this one's memory


def counted(outcomes: Sequence[Outcome]) -> Record:
    """Record of what came of all cases."""
    kinds = Counter(outcome.kind for outcome in outcomes)
    families = Counter(outcome.case.family for outcome in outcomes)
    counts = [Count("inputs tried", len(outcomes))]
    counts += [Count(f"of them {family}", number) for family, number in families.items()]
    counts += [Count("refused in one clear line", kinds["refused"]), Count("read without harm", kinds["read"])]
    counts += [Count(fault, kinds[fault], must_be=0) for fault in FAULTS]
    counts += [
        Count("limit on memory beyond the process's own", MEMORY >> 20, "MiB"),
        Count("most memory taken by one", max(outcome.megabytes for outcome in outcomes), "MiB"),
        Count("longest", round(max(outcome.seconds for outcome in outcomes), 1), "s"),
    ]
    rows = tuple(
        {"family": each.case.family, "name": each.case.name, "outcome": each.kind, "said": each.said[:200]}
        for each in outcomes
    )
    return Record("hostile", "Hostile files, servers and names", tuple(counts), seed=SEED, cases=rows)


if __name__ == "__main__":
    main()
