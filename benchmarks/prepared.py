"""Sources prepared for transfer beside sources that are not, by what their targets reach.

python benchmarks/prepared.py --source-data PATH/TO/cifar100 --target-data PATH/TO/cifar10 --out runs/prepared \\
    [--contenders fast:cartl:...] [--seeds 3] [--epochs 10] [--shots 500] [--examples 1000] [--attack strong]

Each seed trains every contender's source in turn, transfers it by a linear probe and by LwF, and attacks both; a line is
printed as each is done. A run that was interrupted goes on where it was, from the folder ``--out``. At the end: every
contender less its control, seed by seed. Passes are forward-equivalent image passes of making the source, in millions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from common import header

import robust_transfer as rt
from robust_transfer.data import Task
from robust_transfer.errors import DivergedError

STRATEGIES: dict[str, rt.Strategy] = {"probe": rt.LinearProbe(), "lwf": rt.LwF()}


@dataclass(frozen=True)
class Contender:
    """Method of pretraining, by the number of epochs; ``start``: the contender that it goes on from."""

    method: Callable[[float], rt.Pretraining]
    control: str
    start: str | None = None


FARE_STEPS = 3


def fare(epochs: float) -> rt.FARE:
    """A third of the epochs, of as many passes each as two and a half of ``fast``."""
    return rt.FARE(epochs=epochs / 3, steps=FARE_STEPS, step=0.5)


def as_long(epochs: float) -> rt.Fast:
    """Plain ``fast`` for as many passes as with FARE's stage after it: what the stage has to beat."""
    return rt.Fast(epochs=epochs * (1 + fare(epochs).passes_per_image / rt.Fast().passes_per_image / 3))


CONTENDERS = {
    "natural": Contender(lambda epochs: rt.Natural(epochs=epochs), "natural"),
    "fast": Contender(lambda epochs: rt.Fast(epochs=epochs), "fast"),
    "fast, ema": Contender(lambda epochs: rt.Fast(epochs=epochs, ema=0.998), "fast"),
    "fast, awp": Contender(lambda epochs: rt.Fast(epochs=epochs, awp=0.005), "fast"),
    "pgd-2": Contender(lambda epochs: rt.PGDAT(epochs=epochs, steps=2, step=0.625), "pgd-2"),
    "cartl": Contender(lambda epochs: rt.CARTL(epochs=epochs, steps=2, step=0.625), "pgd-2"),
    "cartl, 0.3": Contender(lambda epochs: rt.CARTL(epochs=epochs, steps=2, step=0.625, weight=0.3), "pgd-2"),
    "natural, fare": Contender(fare, "fast", start="natural"),
    "fast, as long": Contender(as_long, "fast"),
    "fast, fare": Contender(fare, "fast, as long", start="fast"),
}


@dataclass(frozen=True)
class Reached:
    """Accuracies in percent of a seed's results, by name: clean and robust; the source's passes."""

    accuracies: dict[str, tuple[float, float]]
    passes: float


class Comparison:
    """Trains, transfers and attacks; every run has its folder, and is not made twice."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given

    def task(self, data: str, seed: int, shots: int | None = None) -> Task:
        return rt.load_task(data, seed=seed, shots=shots)

    def run(self, seed: int, *names: str) -> rt.Run:
        out = Path(self.given.out, f"seed-{seed}", *(name.replace(", ", "-") for name in names))
        return rt.Run(out=out, seed=seed, resume=True, quiet=True, threads=self.given.threads)

    def source(self, name: str, seed: int) -> rt.Checkpoint:
        contender, task = CONTENDERS[name], self.task(self.given.source_data, seed)
        start = self.source(contender.start, seed) if contender.start is not None else None
        network = self.given.network if start is None else None
        method = contender.method(self.given.epochs)
        return method(task, network=network, threat=self.given.threat, start=start, run=self.run(seed, name, "source"))

    def cost(self, name: str, seed: int) -> float:
        """Passes of a contender's source, and of what it goes on from."""
        start = CONTENDERS[name].start
        return self.source(name, seed).card.cost.passes + (self.cost(start, seed) if start is not None else 0.0)

    def reached(self, name: str, seed: int) -> Reached:
        source, task = self.source(name, seed), self.task(self.given.target_data, seed, self.given.shots)
        found = dict[str, tuple[float, float]]()
        for strategy, how in STRATEGIES.items():
            result = how(source, task, run=self.run(seed, name, strategy))
            evaluation = rt.evaluate(
                result,
                task.test,
                threat=self.given.threat,
                attack=self.given.attack,
                examples=self.given.examples,
                transfer_attack_examples=0,
                red_flag_examples=0,
                run=self.run(0, name, f"{strategy}-{seed}-evaluation"),  # the same images for every seed
            )
            found[strategy] = 100 * evaluation.clean_accuracy.value, 100 * evaluation.robust_accuracy.value
        return Reached(found, self.cost(name, seed) / 1e6)


def show(name: str, seed: int, reached: Reached) -> None:
    told = ", ".join(f"{how} {clean:.1f} / {robust:.1f}" for how, (clean, robust) in reached.accuracies.items())
    print(f"  seed {seed}, {name}: {told} (clean / robust, %), {reached.passes:.2f} million passes", flush=True)


def differences(found: dict[tuple[str, int], Reached], names: list[str], seeds: int) -> None:
    """Print each contender less its control, paired by seed."""
    for name in names:
        control = CONTENDERS[name].control
        both = [seed for seed in range(seeds) if (name, seed) in found and (control, seed) in found]
        if name == control or not both:
            continue
        for strategy in STRATEGIES:
            for column, what in enumerate(("clean", "robust")):
                gaps = [
                    found[name, seed].accuracies[strategy][column] - found[control, seed].accuracies[strategy][column]
                    for seed in both
                ]
                spread = f", deviation {stdev(gaps):.1f}" if len(gaps) > 1 else ""
                told = ", ".join(f"{gap:+.1f}" for gap in gaps)
                print(
                    f"{name} less {control}, {strategy}, {what}: {mean(gaps):+.2f} points{spread} [{told}]", flush=True
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source-data", required=True)
    parser.add_argument("--target-data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--contenders", default=":".join(CONTENDERS), help=f"joined by colons, of {':'.join(CONTENDERS)}"
    )
    parser.add_argument("--network", default="wrn-16-2")
    parser.add_argument("--threat", default="linf:8/255")
    parser.add_argument("--epochs", type=float, default=10.0)
    parser.add_argument("--shots", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--attack", default="strong")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    names = given.contenders.split(":")
    if unknown := [name for name in names if name not in CONTENDERS]:
        parser.error(f"unknown contender {unknown[0]!r}")
    told = {"network": given.network, "epochs": given.epochs, "seeds": given.seeds}
    header("prepared sources", **told, threat=given.threat, attack=given.attack, examples=given.examples)
    comparison, found = Comparison(given), dict[tuple[str, int], Reached]()
    for seed in range(given.seeds):
        for name in names:
            try:
                found[name, seed] = comparison.reached(name, seed)
            except DivergedError as error:
                print(f"  seed {seed}, {name}: {error}", flush=True)
                continue
            show(name, seed, found[name, seed])
    differences(found, names, given.seeds)


if __name__ == "__main__":
    main()
