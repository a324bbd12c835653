"""Training throughput: `fit` against hand-written loops, side by side.

python benchmarks/training.py [--quick] [--steps 30] [--repeats 5] [--networks wrn_16_2,wrn_16_4,preact_resnet18_w32]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

from common import classifier, finish, header, measured, parsed, random_split
from handwritten import textbook, tuned
from table import Row

from robust_transfer.run import Run
from robust_transfer.training import NaturalObjective, TrainingSettings, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="wrn_16_2,wrn_16_4,preact_resnet18_w32")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    given = parsed(parser, networks="wrn_16_2", steps=5, repeats=3)
    split = random_split(given.steps * given.batch, 100)
    images, labels, run = split.images(), split.labels, Run(quiet=True)
    device = run.torch_device()
    header(
        "training (natural loss, no augmentation)",
        batch=given.batch,
        steps=given.steps,
        repeats=given.repeats,
    )

    rows: list[Row] = []
    for network in given.networks.split(","):

        def ours(network: str = network) -> float:
            settings = TrainingSettings(
                epochs=1, batch_size=given.batch, learning_rate=1e-3, augment=False, guard_every=10**9
            )
            return fit(NaturalObjective(classifier(network, 100), 10**9), split, settings, run).seconds

        def plain(network: str = network) -> float:
            return textbook(classifier(network, 100).to(device), images, labels, given.batch)

        def best(network: str = network) -> float:
            return tuned(classifier(network, 100).to(device), images, labels, given.batch, run.dtype())

        tasks: dict[str, Callable[[], float]] = {
            "textbook float32 NCHW": plain,
            "handwritten channels-last": best,
            "fit": ours,
        }
        found = measured(f"training {network} on {len(split)} images", tasks, given.repeats)
        rates = {name: len(split) / row.median for name, row in found.items()}
        rows += [replace(row, note=f"{rates[name]:.0f} images/s") for name, row in found.items()]
        print(f"{network}: " + ", ".join(f"{name} {rate:.0f} images/s" for name, rate in rates.items()))
        print(f"  fit / textbook {rates['fit'] / rates['textbook float32 NCHW']:.2f}", end="")
        print(f", fit / handwritten {rates['fit'] / rates['handwritten channels-last']:.3f}", flush=True)
    finish(rows, given.rows)


if __name__ == "__main__":
    main()
