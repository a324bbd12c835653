"""Cost of a study of 10,000 cells, and of data of 1,000,000 images.

python benchmarks/scale.py [--quick] [--parts plan,run,data,copies]

plan: planning and collecting studies of so many cells. run: a study that runs on processes and on Ray, one of them killed;
what it takes beside its cells' work. data: loading so many images, what they are known by, memory. copies: the search for
copies among so many. Cells and images are small; the tables say how the figures grow.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import finish, parsed
from known_cells import WAYS, running
from loading_many import loading
from planning import planning
from searching import searching
from table import Row


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
    "plan": lambda given, folder: planning(_numbers(given.cells), folder),
    "run": lambda given, folder: running(given.run_cells, given.seconds, given.ways.split(","), folder),
    "data": lambda given, folder: loading(_numbers(given.images), folder),
    "copies": lambda given, folder: searching(_numbers(given.looks)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument(
        "--cells", default="200,1000,10000", help="of the studies to plan and to collect, multiples of 200"
    )
    parser.add_argument("--run-cells", type=int, default=200, help="of the study that runs")
    parser.add_argument("--seconds", type=float, default=0.5, help="of CPU time that each of these takes")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--images", default="50000,200000", help="of the data sets")
    parser.add_argument("--looks", default="50000,200000,1000000", help="images whose copies are looked for")
    given = parsed(parser, cells="200,1000", run_cells=24, images="5000,20000", looks="20000,100000")
    logging.disable(logging.WARNING)
    rows = list[Row]()
    for name in given.parts.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows += PARTS[name](given, Path(folder))
    finish(rows, given.rows)


if __name__ == "__main__":
    main()
