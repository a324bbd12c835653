"""A PGD step alone and beside other busy processes, with threads that spin at barriers and threads that sleep.

python benchmarks/busy.py --neighbours 1 --repeats 5

The policy is read when PyTorch is loaded, so each measurement is a child process of its own. The two take turns, and each
neighbour is a loop of matrix products with as many threads as PyTorch takes by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack

from common import header

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
STEP = """
import sys, time, torch
import robust_transfer as rt
from robust_transfer import losses
from robust_transfer.attacks.victim import attacking
from robust_transfer.engine import Engine
images, steps = int(sys.argv[1]), int(sys.argv[2])
network = rt.load_source("bundled").classifier
x, labels = torch.rand(images, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(images, dtype=torch.long)
with attacking(network, x.device, Engine()) as victim:
    victim.gradient(x, labels, losses.cross_entropy)
    begun = time.perf_counter()
    for _ in range(steps):
        victim.gradient(x, labels, losses.cross_entropy)
    print(1000 * (time.perf_counter() - begun) / steps / images)
"""
NEIGHBOUR = """
import torch
a = torch.rand(700, 700)
print("busy", flush=True)
while True:
    a = (a @ a).clamp(0, 1)
"""


def environment(policy: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**kept, "OMP_WAIT_POLICY": policy}


def step(policy: str, neighbours: int, images: int, steps: int) -> float:
    """Milliseconds an image of one step, beside so many busy processes of the same policy."""
    with ExitStack() as stack:
        for _ in range(neighbours):
            command = [sys.executable, "-c", NEIGHBOUR]
            other = stack.enter_context(
                subprocess.Popen(command, env=environment(policy), stdout=subprocess.PIPE, text=True)
            )
            stack.callback(other.kill)
            assert other.stdout is not None
            other.stdout.readline()
        command = [sys.executable, "-c", STEP, str(images), str(steps)]
        done = subprocess.run(command, env=environment(policy), capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    header("a PGD step beside others", images=given.images, steps=given.steps, repeats=given.repeats)
    for count in given.neighbours:
        times: dict[str, list[float]] = {"ACTIVE": [], "PASSIVE": []}
        for _ in range(given.repeats):
            for policy, values in times.items():
                values.append(step(policy, count, given.images, given.steps))
                print(f"  {count} neighbours, {policy}: {values[-1]:.1f} ms an image", flush=True)
        active, passive = (statistics.median(values) for values in times.values())
        print(
            f"{count} neighbours: {active:.1f} ms spinning, {passive:.1f} ms sleeping, {active / passive:.1f} x",
            flush=True,
        )


if __name__ == "__main__":
    main()
