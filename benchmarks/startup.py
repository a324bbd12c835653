"""Start-up of the command line, beside a Python that imports PyTorch and nothing else.

python benchmarks/startup.py --repeats 5

Children take turns; `--imports` also shows what the import of the probe's modules takes, the slowest first.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import header

CLI = [sys.executable, "-m", "robust_transfer.cli"]
PROBE = ["transfer", "--source", "bundled", "--data", "builtin:digits", "--strategy", "linear-probe", "--quiet"]
COMMANDS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "--help": [*CLI, "--help"],
    "list": [*CLI, "list"],
    "probe on digits": [*CLI, *PROBE],
}
MODULES = "import robust_transfer.sources.folder, robust_transfer.checkpoint, robust_transfer.strategies, robust_transfer.data"


def seconds(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", str(Path(folder) / "run")] if "transfer" in command else []
        begun = time.perf_counter()
        subprocess.run([*command, *out], check=True, capture_output=True)
        return time.perf_counter() - begun


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
    parser.add_argument("--imports", action="store_true")
    given = parser.parse_args()
    header("start-up", repeats=given.repeats)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(given.repeats + 1):
        for name, command in COMMANDS.items():
            taken = seconds(command)
            if number:  # the first one reads the files from the disk
                times[name].append(taken)
                print(f"  {name}: {taken:.2f} s", flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.2f} s, {median / medians['import torch']:.2f} x `import torch`", flush=True)
    if given.imports:
        imports()


if __name__ == "__main__":
    main()
