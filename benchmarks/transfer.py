"""Cost of transfer: an LwF step against a fine-tuning step, a linear probe against one forward pass.

python benchmarks/transfer.py [--quick] [--parts steps,probe] [--networks wrn_16_2] [--steps 30] [--repeats 5]
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from common import classifier, finish, header, measured, parsed, random_split, timed
from table import Row

from robust_transfer.data import Split
from robust_transfer.run import Run
from robust_transfer.strategies import features_of
from robust_transfer.strategies.linear_probe import PATH
from robust_transfer.strategies.lwf_objective import LwFObjective
from robust_transfer.strategies.softmax import solve_path
from robust_transfer.training import NaturalObjective, Objective, TrainingSettings, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="steps,probe")
    parser.add_argument("--networks", default="wrn_16_2", help="probes are of the first")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--probe-images", type=int, default=10_000)
    parser.add_argument("--probe-repeats", type=int, default=3)
    given = parsed(parser, steps=5, repeats=3, probe_images=1000)
    run = Run(quiet=True)
    networks, parts, rows = given.networks.split(","), given.parts.split(","), list[Row]()
    for network in networks if "steps" in parts else []:
        rows += steps(network, given.steps, given.repeats, run)
    for classes in (10, 100) if "probe" in parts else ():
        rows += probe(networks[0], given.probe_images, classes, given.probe_repeats, run)
    finish(rows, given.rows)


def steps(network: str, count: int, repeats: int, run: Run) -> list[Row]:
    split = random_split(count * 128, 10)
    settings = TrainingSettings(epochs=1, learning_rate=1e-4, augment=False, guard_every=10**9)
    features = features_of(classifier(network, 10), split, run)
    header("seconds a step, batch 128", network=network, steps=count, repeats=repeats)

    def train(objective: Objective) -> float:
        objective.collapse_patience = 10**9
        objective.classifier.hold_batch_norm = True
        return fit(objective, split, settings, run).seconds / count

    def lwf(**teacher: Any) -> float:
        return train(LwFObjective(classifier(network, 10), weight=0.1, distance="l2", **teacher))

    rows = measured(
        f"a step of {network}, 128 images",
        {
            "fine-tune": lambda: train(NaturalObjective(classifier(network, 10))),
            "lwf, cached": lambda: lwf(features=features),
            "lwf, live": lambda: lwf(teacher=classifier(network, 10)),
        },
        repeats,
    )
    tuned, live = rows["fine-tune"].median, rows["lwf, live"].median
    print(f"  lwf, live / fine-tune: {live / tuned:.3f} (to be at most 1.25)", flush=True)
    return list(rows.values())


def probe(network: str, n: int, classes: int, repeats: int, run: Run) -> list[Row]:
    """Cost of a probe against a forward pass; (probe - 5 s) is to be at most 1.15 of it."""
    split, what = random_split(n, classes), f"linear probe of {network}, {n} images, {classes} classes"
    model = classifier(network, classes)
    header(what, path_points=len(PATH), repeats=repeats)
    labels = structured_labels(features_of(model, split, run), classes)
    rows = measured(
        what,
        {
            "one forward pass": lambda: timed(lambda: forward_pass(split, model, run)),
            "features and whole path": lambda: timed(
                lambda: solve_path(features_of(model, split, run), labels, classes, PATH)
            ),
        },
        repeats,
    )
    forward, whole = (row.median for row in rows.values())
    print(f"  (probe - 5 s) / forward pass: {(whole - 5) / forward:.2f} (to be at most 1.15)", flush=True)
    return list(rows.values())


def forward_pass(split: Split, model: torch.nn.Module, run: Run) -> None:
    """The network over all images once: what any use of the data costs at least."""
    with torch.inference_mode(), run.autocast():
        model.eval()
        for images, _, _ in split.batches(500):
            model((images.float() / 255).contiguous(memory_format=torch.channels_last))


def structured_labels(features: torch.Tensor, classes: int) -> torch.Tensor:
    """Labels that a linear classifier learns in part: a random linear rule with noise."""
    generator = torch.Generator().manual_seed(1)
    standard = (features - features.mean(0)) / features.std(0).clamp_min(1e-6)
    scores = standard @ torch.randn(features.shape[1], classes, generator=generator)
    return (scores + 4 * torch.randn(scores.shape, generator=generator)).argmax(1)


if __name__ == "__main__":
    main()
