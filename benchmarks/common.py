"""Shared parts of the benchmarks: interleaved repeats, medians, a header with the conditions, a final table."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from conditions import conditions
from load import Load, moment, pooled, taken, told
from table import Report, Row, page

from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data import Split
from robust_transfer.environment import command_line
from robust_transfer.preprocessing import Preprocessing


def header(title: str, **facts: object) -> None:
    print(f"{title}\n  " + "\n  ".join(f"{name} {value}" for name, value in conditions().items()))
    print("  " + ", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)


def interleaved(tasks: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median seconds of each task; the tasks take turns, so that a slow minute of the machine hits all of them."""
    return {name: row.median for name, row in measured("", tasks, repeats).items()}


def measured(what: str, tasks: Mapping[str, Callable[[], float]], repeats: int, unit: str = "s") -> dict[str, Row]:
    """Results of each task, ``repeats`` times in turn, and the load of other processes; each is printed as it comes."""
    values: dict[str, list[float]] = {name: [] for name in tasks}
    loads: dict[str, list[Load | None]] = {name: [] for name in tasks}
    for number in range(1, repeats + 1):
        for name, task in tasks.items():
            begun = moment()
            value = task()
            load = taken(begun, moment())
            values[name].append(value)
            loads[name].append(load)
            print(f"    {name}, {number} of {repeats}: {value:.4g} {unit} (taken by others: {told(load)})", flush=True)
    return {name: Row(what, name, tuple(each), unit, pooled(loads[name])) for name, each in values.items()}


def finish(rows: Sequence[Row], keep: Path | None = None) -> None:
    """Print the table of all that a command measured; ``keep``: also add it to this file, for a table of several."""
    command = re.sub(r" --rows[= ]\S+", "", command_line())  # where they are kept is nobody's business
    report = Report(command, conditions(), tuple(rows))
    print(f"\n{page([report])}", flush=True)
    if keep is not None:
        report.append(keep)


def parsed(parser: argparse.ArgumentParser, **quick: object) -> argparse.Namespace:
    """Options of a command that ends with a table; ``quick``: the defaults that ``--quick`` puts in their place."""
    cheap = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in quick.items())
    parser.add_argument("--quick", action="store_true", help=f"a few minutes at most: {cheap}")
    parser.add_argument("--rows", type=Path, help="also add the table's rows to this file, for benchmarks/table.py")
    if parser.parse_args().quick:
        parser.set_defaults(**quick)
    return parser.parse_args()


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def random_split(n: int, classes: int, size: int = 32) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return Split.in_memory(images, labels, tuple(str(i) for i in range(classes)))


def classifier(network: str, classes: int, size: int = 32) -> Classifier:
    torch.manual_seed(0)
    return Classifier.build(NetworkSpec(name=network, num_classes=classes, preprocessing=Preprocessing(size=size)))
