"""Training methods against hand-written loops at equal compute: same network, start, images, epochs and rate.

python benchmarks/methods.py --data PATH/TO/cifar100 [--shots 100] [--methods free,trades,adversarial,last-blocks] [--seeds 1]

Both are trained in float32. A pair differs in its order of images, crops, flips and attacks' random starts: what one
method differs by from seed to seed is the yardstick.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from common import header
from loops import Plan, free, natural, pgd_at, trades
from torch import nn

import robust_transfer as rt
from robust_transfer.classifier import Classifier
from robust_transfer.pretraining import PRETRAINING

THREAT, EPS = "linf:8/255", 8 / 255
SAME: dict[str, Any] = {"nesterov": True, "weight_decay": 5e-4, "schedule": "cosine"}
Trained = Callable[[rt.Task, int], nn.Module]


@dataclass(frozen=True)
class Pair:
    """A method as we train it, and as one writes it by hand; both take a task and a seed."""

    told: str
    ours: Trained
    by_hand: Trained


def pretrained(name: str, network: str, plan: Plan, settings: dict[str, Any], loop: Callable[..., None]) -> Pair:
    """A pretraining method."""

    def ours(task: rt.Task, seed: int) -> nn.Module:
        how = PRETRAINING.get(name)(**SAME, epochs=plan.epochs, learning_rate=plan.rate, **settings)
        return how(task, network=network, threat=THREAT, run=_run(seed)).classifier

    def by_hand(task: rt.Task, seed: int) -> nn.Module:
        model = _fresh(PRETRAINING.get(name)().network_spec(network, task, None), seed)
        return _trained(loop, model, task, plan, seed)

    return Pair(f"{network}, {plan.epochs} epochs of {settings}", ours, by_hand)


def adversarial(plan: Plan, steps: int) -> Pair:
    """From the bundled source, with a new head: PGD adversarial training."""
    step = 0.5

    def ours(task: rt.Task, seed: int) -> nn.Module:
        how = rt.Adversarial(
            **SAME, method="pgd-at", steps=steps, step=step, epochs=plan.epochs, learning_rate=plan.rate
        )
        return how(rt.load_source("bundled"), task, run=_run(seed)).classifier

    def by_hand(task: rt.Task, seed: int) -> nn.Module:
        model = rt.load_source("bundled").classifier.with_head(task.num_classes, seed=seed)
        return _trained(pgd_at, model, task, plan, seed, eps=EPS, steps=steps, step=step * EPS)

    return Pair(f"bundled source, {plan.epochs} epochs of PGD-{steps} adversarial training", ours, by_hand)


def last_blocks(plan: Plan, blocks: int) -> Pair:
    """The last blocks of the bundled source, drawn anew."""

    def ours(task: rt.Task, seed: int) -> nn.Module:
        how = rt.LastBlocks(**SAME, blocks=blocks, epochs=plan.epochs, learning_rate=plan.rate)
        return how(rt.load_source("bundled"), task, run=_run(seed)).classifier

    def by_hand(task: rt.Task, seed: int) -> nn.Module:
        model = rt.load_source("bundled").classifier.with_head(task.num_classes, seed=seed)
        fresh = _fresh(model.spec, seed + 100)
        units, drawn = _units(model), _units(fresh)
        for number in range(len(units) - (blocks - 1), len(units)):
            units[number] = drawn[number]
        model.body.last = fresh.body.last
        frozen = [model.body.get_submodule("conv1"), *units[: 1 - blocks]]
        return _trained(natural, model, task, plan, seed, frozen=frozen)

    return Pair(f"bundled source, {plan.epochs} epochs of the last {blocks} blocks", ours, by_hand)


METHODS: dict[str, Callable[[], Pair]] = {
    "free": lambda: pretrained(
        "free", "wrn_16_1", Plan(16, 0.1), {"replays": 4}, lambda *a: free(*a, eps=EPS, replays=4)
    ),
    "trades": lambda: pretrained(
        "trades",
        "wrn_16_1",
        Plan(4, 0.1),
        {"beta": 6.0, "steps": 3, "step": 0.5},
        lambda *a: trades(*a, eps=EPS, steps=3, step=EPS / 2, beta=6.0),
    ),
    "adversarial": lambda: adversarial(Plan(2, 0.02), steps=3),
    "last-blocks": lambda: last_blocks(Plan(4, 0.05), blocks=3),
}


def _run(seed: int) -> rt.Run:
    return rt.Run(seed=seed, quiet=True, precision="float32")


def _fresh(spec: rt.NetworkSpec, seed: int) -> Classifier:
    torch.manual_seed(seed)
    return Classifier.build(spec)


def _units(model: Classifier) -> nn.Sequential:
    """The blocks of a wide residual network but for the first layer and the last norm."""
    units = model.body.get_submodule("units")
    assert isinstance(units, nn.Sequential)
    return units


def _trained(
    loop: Callable[..., None], model: Classifier, task: rt.Task, plan: Plan, seed: int, **how: object
) -> nn.Module:
    model = model.to(memory_format=torch.channels_last).requires_grad_(True)
    train = task.prepared(model.spec.preprocessing).train
    loop(model, train.images(), train.labels, replace(plan, seed=seed), **how)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--shots", type=int, default=100)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--examples", type=int, default=1000)
    given = parser.parse_args()
    task = rt.load_task(given.data, shots=given.shots, seed=0, val=0.0)
    header(
        f"training methods on {len(task.train):,} images of {task.num_classes} classes, PGD-10 at {THREAT}",
        shots=given.shots,
        examples=given.examples,
        seeds=given.seeds,
    )
    for name in given.methods.split(","):
        pair = METHODS[name]()
        print(f"{name}: {pair.told}", flush=True)
        for seed in range(given.seeds):
            for who, train in (("by hand", pair.by_hand), ("ours", pair.ours)):
                begun = time.perf_counter()
                model = train(task, seed)
                seconds = time.perf_counter() - begun
                found = rt.evaluate(
                    model, task.test, threat=THREAT, attack="pgd-10", examples=given.examples, run=_run(0)
                )
                print(
                    f"  seed {seed}, {who:8}{seconds:7.0f} s, clean {found.clean_accuracy}, "
                    f"robust {found.robust_accuracy}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
