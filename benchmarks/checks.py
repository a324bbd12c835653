"""Cost of looking for numbers that are not finite, and of keeping the state before a step: `fit` with and without them.

python benchmarks/checks.py [--quick] [--networks wrn_16_2] [--batch 128] [--steps 6] [--repeats 7]

Times are CPU seconds of this process; a pair's ratio is that of neighbours in time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

from common import classifier, header, random_split

from robust_transfer.data import Split
from robust_transfer.run import Run
from robust_transfer.training import NaturalObjective, TrainingSettings, fit
from robust_transfer.training.before import Before

CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="wrn_16_2,preact_resnet18_w32")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one network, 32 images a step")
    given = parser.parse_args()
    if given.quick:
        given.networks, given.batch = "wrn_16_2", 32
    header("checks of every step", batch=given.batch, steps=given.steps, repeats=given.repeats)
    split = random_split(given.batch * given.steps, CLASSES)
    for network in given.networks.split(","):
        ratios = []
        for number in range(given.repeats):
            order = (seconds, without) if number % 2 else (without, seconds)
            took = {call: call(network, split, given.batch) for call in order}
            ratios.append(took[seconds] / took[without])
            print(
                f"    {network}, pair {number + 1}: with {took[seconds]:.3f} s, without {took[without]:.3f} s",
                flush=True,
            )
        low, high = min(ratios), max(ratios)
        print(
            f"{network}: with / without {statistics.median(ratios):.4f} (median of {len(ratios)}; {low:.4f} to {high:.4f})"
        )


def seconds(network: str, split: Split, batch: int) -> float:
    """CPU seconds of an epoch."""
    settings = TrainingSettings(epochs=1, batch_size=batch, learning_rate=1e-3, augment=False, guard_every=10**9)
    objective = NaturalObjective(classifier(network, CLASSES), 10**9)
    begun = time.process_time()
    fit(objective, split, settings, Run(quiet=True, precision="float32"))
    return time.process_time() - begun


def without(network: str, split: Split, batch: int) -> float:
    """The same without a look at gradients and state, and with nothing kept."""
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    with patch("robust_transfer.training.trouble.first_not_finite", nothing), patch.object(Before, "keep", nothing):
        return seconds(network, split, batch)


if __name__ == "__main__":
    main()
