"""Attacks against other implementations: seconds, robust accuracy, ratios; the share of the machine's own peak.

python benchmarks/attacks.py [--quick] [--data D] [--models bundled,runs/natural] [--parts peak,pgd,suites,strong]
    [--examples 1000] [--classes 3] [--first 250] [--record docs/reference.jsonl]

Every contender gets the same network (float32, evaluation mode), images, step size, number of steps and budget; all run in
this process, in turn. A model whose classes are not those of D gets a linear probe on D first; ``--classes 3`` keeps the first
three classes, of images and head. The peers are the extra `bench`; torchattacks pins an old requests and goes in by itself:
pip install -e '.[bench]' && pip install --no-deps torchattacks
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from cases import Case, cases, untrained
from common import finish, parsed
from peak import peak
from pgd_peers import pgd
from strong import strong
from suites import suites
from table import Row

import robust_transfer as rt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="builtin:digits")
    parser.add_argument("--models", default="bundled", help="sources or results, separated by commas")
    parser.add_argument("--networks", default="", help="untrained networks whose share of the peak is told, too")
    parser.add_argument("--parts", default="peak,pgd,suites,strong")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--first", type=int, help="only the first so many of the examples: a long comparison in parts")
    parser.add_argument("--classes", type=int, help="the first so many classes only")
    parser.add_argument("--threat", default="linf:8/255")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--suite", default="strong", help="what is set against AutoAttack")
    parser.add_argument(
        "--record", type=Path, help="keep AutoAttack's figures here: they take hours, and need no repeating"
    )
    given = parsed(parser, parts="peak,pgd", examples=32, repeats=2)
    logging.disable(logging.WARNING)
    run, parts, by_layer = rt.Run(quiet=True), given.parts.split(","), not given.quick
    tools: dict[str, Callable[[Case], list[Row]]] = {
        "peak": lambda case: peak(case, given.repeats, by_layer),
        "pgd": lambda case: pgd(case, given.repeats, run),
        "suites": lambda case: suites(case, run, given.repeats),
        "strong": lambda case: strong(case, given.seeds, run, given.suite, given.record),
    }
    rows: list[Row] = []
    for case in untrained(given.networks, rt.Threat.parse(given.threat), given.batch, run):
        rows += peak(case, given.repeats, by_layer)
    for case in cases(given, run) if given.models else ():
        for part in parts:
            rows += tools[part](case)
    finish(rows, given.rows)


if __name__ == "__main__":
    main()
