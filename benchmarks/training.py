"""Training throughput: `fit` against hand-written loops, side by side.

python benchmarks/training.py [--quick] [--parts natural,fast] [--steps 30] [--repeats 5]
    [--networks wrn_16_2,wrn_16_4,preact_resnet18_w32] [--size 64]

`natural` is plain training at 32 pixels; `fast` the first of the networks under fast adversarial training at --size.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

from common import classifier, finish, header, measured, parsed, random_split
from handwritten import fast, textbook, tuned
from table import Row

from robust_transfer.data import Split
from robust_transfer.pretraining import Fast
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import NaturalObjective, Objective, TrainingSettings, fit

Tasks = dict[str, Callable[[], float]]
CLASSES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="natural,fast")
    parser.add_argument("--networks", default="wrn_16_2,wrn_16_4,preact_resnet18_w32")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=64, help="of the images of fast adversarial training, in pixels")
    given = parsed(parser, networks="wrn_16_2", steps=5, repeats=3, size=32)
    networks, parts, rows = given.networks.split(","), given.parts.split(","), list[Row]()
    images = given.steps * given.batch
    header("training, no augmentation", batch=given.batch, steps=given.steps, repeats=given.repeats)
    for network in networks if "natural" in parts else []:
        found = natural(network, random_split(images, CLASSES), given.batch)
        rows += compared(f"training {network} on {images} images", found, given.repeats, images)
    if "fast" in parts:
        what = f"fast adversarial training of {networks[0]} on {images} images of {given.size} pixels"
        found = adversarial(networks[0], random_split(images, CLASSES, given.size), given.batch, given.size)
        rows += compared(what, found, given.repeats, images)
    finish(rows, given.rows)


def natural(network: str, split: Split, batch: int) -> Tasks:
    images, labels, run = split.images(), split.labels, Run(quiet=True)
    device = run.torch_device()
    return {
        "textbook float32 NCHW": lambda: textbook(classifier(network, CLASSES).to(device), images, labels, batch),
        "handwritten channels-last": lambda: tuned(
            classifier(network, CLASSES).to(device), images, labels, batch, run.dtype()
        ),
        "fit": lambda: ours(NaturalObjective(classifier(network, CLASSES), 10**9), split, batch, run),
        "fit, compiled": lambda: ours(NaturalObjective(classifier(network, CLASSES), 10**9), split, batch, run, True),
    }


def adversarial(network: str, split: Split, batch: int, size: int) -> Tasks:
    images, labels, run, threat = split.images(), split.labels, Run(quiet=True), Threat.parse("linf:4/255")
    device, step = run.torch_device(), Fast().step
    return {
        "handwritten channels-last": lambda: fast(
            classifier(network, CLASSES, size).to(device),
            images,
            labels,
            batch,
            run.dtype(),
            eps=threat.eps,
            step=step,
        ),
        "fit": lambda: ours(
            AdversarialObjective(classifier(network, CLASSES, size), threat, run, steps=1, step=step), split, batch, run
        ),
    }


def ours(objective: Objective, split: Split, batch: int, run: Run, compiled: bool = False) -> float:
    settings = TrainingSettings(
        epochs=1, batch_size=batch, learning_rate=1e-3, augment=False, guard_every=10**9, compile=compiled
    )
    return fit(objective, split, settings, run).seconds


def compared(what: str, tasks: Tasks, repeats: int, images: int) -> list[Row]:
    found = measured(what, tasks, repeats)
    rates = {name: images / row.median for name, row in found.items()}
    print(f"{what}: " + ", ".join(f"{name} {rate:.0f} images/s" for name, rate in rates.items()))
    print("  " + ", ".join(f"fit / {name} {rates['fit'] / rates[name]:.3f}" for name in rates if name != "fit"))
    return [replace(row, note=f"{rates[name]:.0f} images/s") for name, row in found.items()]


if __name__ == "__main__":
    main()
