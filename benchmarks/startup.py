"""Start-up of the command line: seconds to the first output, seconds in all, and peak memory of every command.

python benchmarks/startup.py [--quick] [--repeats 5]

Children take turns, beside a Python that imports PyTorch and nothing else. `--imports` also shows what the import of the
probe's modules takes, the slowest first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from common import finish, header, measured, parsed
from table import Row, figure

CLI = [sys.executable, "-m", "robust_transfer.cli"]
WATCHED = [sys.executable, "-I", "-S", str(Path(__file__).with_name("watched.py"))]
MODULES = "import robust_transfer.sources.folder, robust_transfer.checkpoint, robust_transfer.strategies, robust_transfer.data"
LISTS = ("", "sources", "networks", "data", "pretraining", "strategies", "attacks", "recipes")
DATA = ["--data", "builtin:digits"]
CHEAP = ["--examples", "8", "--attack", "fgsm", "--red-flag-examples", "0", "--transfer-attack-examples", "0"]


def commands(folder: Path) -> dict[str, list[str]]:
    """Every command, small enough to show how it starts; ``folder`` holds what :func:`prepare` makes."""
    probe, evaluated = str(folder / "probe"), str(folder / "evaluated")

    def out(name: str) -> list[str]:
        return ["--out", str(folder / name), "--overwrite"]

    working = {
        "transfer": ["--source", "bundled", *DATA, "--strategy", "linear-probe", *out("probe")],
        "evaluate": [probe, *DATA, *CHEAP, "--keep-deltas", *out("evaluated")],
        "verify": [evaluated, *DATA, probe],
        "compare": [evaluated, evaluated],
        "pretrain": [*DATA, "--network", "wrn-16-1", "--epochs", "0.1", *out("pretrained")],
        "import": ["bundled", *out("imported")],
        "inspect": ["bundled"],
        "study": [
            "heads",
            "--scale",
            "smoke",
            "--dry-run",
            "--data",
            "cifar10=builtin:digits",
            "--out",
            str(folder / "s"),
        ],
        "demo": ["--shots", "1", "--no-scratch", "--examples", "4", *out("demo")],
    }  # in the order in which one needs what another has made
    return {
        "import torch": [sys.executable, "-c", "import torch; print()"],
        "--help": [*CLI, "--help"],
        **{f"list {what}".strip(): [*CLI, "list", *filter(None, [what])] for what in LISTS},
        **{name: [*CLI, name, *words] for name, words in working.items()},
    }


def watched(command: list[str], tell: Callable[[dict[str, float]], None]) -> float:
    """Seconds to the first output of a command; ``tell`` is given all that was found."""
    done = subprocess.run([*WATCHED, *command], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    tell(found)
    return found["first"]


def starts(commands: dict[str, list[str]], repeats: int) -> list[Row]:
    """Seconds to the first output of each command, with the seconds in all and the peak memory as a note."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    tasks = {name: partial(watched, command, found[name].append) for name, command in commands.items()}
    rows = measured("first output of a command", tasks, repeats)
    return [replace(row, note=_whole(found[name])) for name, row in rows.items()]


def _whole(found: list[dict[str, float]]) -> str:
    seconds, megabytes = (median(each[what] for each in found) for what in ("whole", "megabytes"))
    return f"in all {figure(seconds)} s, {figure(megabytes)} MB"


def imports() -> None:
    """Modules by the time that their import takes, what they import included."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", MODULES], capture_output=True, text=True, check=True
    )
    rows = [line.split("|") for line in done.stderr.splitlines() if line.count("|") == 2 and "cumulative" not in line]
    top = [row for row in rows if row[2].strip().count(".") == 0]
    for row in sorted(top, key=lambda row: -int(row[1]))[:12]:
        print(f"  {int(row[1]) / 1e6:6.2f} s  {row[2].strip()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="commands, separated by commas; those that need others' results too")
    parser.add_argument("--imports", action="store_true")
    given = parsed(parser, repeats=1, only="import torch,list strategies,inspect")
    header("start-up", repeats=given.repeats)
    with tempfile.TemporaryDirectory() as folder:
        chosen = commands(Path(folder))
        if given.only:
            chosen = {name: chosen[name] for name in given.only.split(",")}
        print("  once, to read the files from the disk:", flush=True)
        starts(chosen, 1)
        rows = starts(chosen, given.repeats)
    if given.imports:
        imports()
    finish(rows, given.rows)


if __name__ == "__main__":
    main()
