"""The CIFAR-10 run: the bundled source and a naturally trained twin, three strategies, whole curves, few images.

    python scripts/cifar10.py --data PATH/TO/cifar10 --twin runs/twin --out runs/cifar10 [--only curves,...] [--examples N]

Each cell is a run folder (weights, card) with an evaluation for each threat; a cell that is there is not made again, so
an interrupted run goes on where it stopped. `scripts/cifar10_table.py` turns the folder into the table and the plot.
The twin is made by

    robust-transfer pretrain --data PATH/TO/cifar100 --network preact_resnet18_w32 --method natural --val 0 \
        --epochs 10 --set ema=0.998 --out runs/twin
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

import robust_transfer as rt
from robust_transfer.checkpoint import load_checkpoint
from robust_transfer.data import Task
from robust_transfer.run import write_json
from robust_transfer.strategies.base import PATH_FILE
from robust_transfer.strategies.linear_probe import attach
from robust_transfer.validation import Validation

THREATS = ("linf:8/255", "linf:4/255")
ATTACK = "pgd-20"
L2_PATH = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 1e-4)
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
SHARES = (0.25, 0.5, 0.75)
SHOTS, SEEDS = (10, 50), (0, 1, 2)
LWF = {"teacher": "live", "augment": True, "epochs": 6.0}
FINE_TUNE = {"augment": True, "epochs": 6.0}
SCRATCH = {"epochs": 100.0, "ema": 0.99, "learning_rate": 0.05, "batch_size": 64, "select": "robust"}

Cell = tuple[str, Callable[[Path, int], rt.Checkpoint]]


@dataclasses.dataclass(frozen=True)
class Study:
    """What every cell needs."""

    source: rt.Checkpoint
    twin: rt.Checkpoint | None
    data: str
    out: Path
    examples: int | None

    def task(self, seed: int, shots: int | None = None) -> Task:
        return rt.load_task(self.data, shots=shots, seed=seed)

    def run(self, out: Path, seed: int) -> rt.Run:
        return rt.Run(out=out, seed=seed, resume=True)

    # ------------------------------------------------------------ groups of cells

    def curves(self) -> Iterator[Cell]:
        """The probe over L2 and LwF over its strength, from one seed; then interpolation between probe and fine-tuned."""
        yield "curve/probe/chosen-s0", lambda out, seed: self._probe(out, seed)
        for l2 in L2_PATH:
            yield f"curve/probe/l2-{l2:g}-s0", lambda out, seed, l2=l2: self._path_point(out, l2)
        yield "curve/fine-tune-s0", lambda out, seed: self._tuned(out, seed, 0.0)
        for strength in STRENGTHS:
            yield f"curve/lwf/strength-{strength:g}-s0", lambda out, seed, s=strength: self._tuned(out, seed, s)
        for share in SHARES:
            yield f"curve/interpolation/{share:g}-s0", lambda out, seed, share=share: self._mixed(out, share)

    def chosen(self) -> Iterator[Cell]:
        """The points chosen on val PGD-10 accuracy, at two more seeds."""
        for seed in SEEDS[1:]:
            yield f"curve/probe/chosen-s{seed}", self._probe
            yield f"curve/lwf/chosen-s{seed}", lambda out, seed: self._tuned(out, seed, self._chosen_strength())

    def natural(self) -> Iterator[Cell]:
        """The three strategies from the natural twin."""
        if self.twin is None:
            raise SystemExit("give --twin")
        for name in ("linear-probe", "fine-tune", "lwf"):
            yield f"natural/full/{name}-s0", lambda out, seed, name=name: self._plain(out, seed, name, self.twin, None)

    def few(self) -> Iterator[Cell]:
        """10 and 50 images a class: three strategies from both sources, three seeds."""
        sources = {"robust": self.source} | ({"natural": self.twin} if self.twin is not None else {})
        for shots in SHOTS:
            for kind, source in sources.items():
                for name in ("linear-probe", "fine-tune", "lwf"):
                    for seed in SEEDS:
                        yield (
                            f"{kind}/shots-{shots}/{name}-s{seed}",
                            lambda out, seed, n=name, c=source, k=shots: self._plain(out, seed, n, c, k),
                        )

    def scratch(self) -> Iterator[Cell]:
        """Adversarial training from scratch on the few images, early-stopped on val."""
        for shots in SHOTS:
            for seed in SEEDS:
                yield f"scratch/shots-{shots}/fast-s{seed}", lambda out, seed, k=shots: self._scratch(out, seed, k)

    # ------------------------------------------------------------ cells

    def _probe(self, out: Path, seed: int) -> rt.Checkpoint:
        return rt.LinearProbe(path=L2_PATH, choose="robust")(self.source, self.task(seed), run=self.run(out, seed))

    def _path_point(self, out: Path, l2: float) -> rt.Checkpoint:
        chosen = self.out / "curve/probe/chosen-s0"
        tensors, card = load_file(chosen / PATH_FILE), load_checkpoint(chosen).card
        head = torch.nn.Linear(*reversed(tensors[f"{l2:g}/weight"].shape))
        head.load_state_dict({"weight": tensors[f"{l2:g}/weight"], "bias": tensors[f"{l2:g}/bias"]})
        card = dataclasses.replace(card, settings={**card.settings, "l2": l2}, criterion=f"l2 given as {l2:g}")
        return rt.Checkpoint(attach(self.source.classifier, head), card).save(out)

    def _tuned(self, out: Path, seed: int, strength: float) -> rt.Checkpoint:
        task, run = self.task(seed), self.run(out, seed)
        warm = {"choose": "robust", "head": "new"}
        if strength == 0:
            return rt.FineTune(**warm, **FINE_TUNE)(self.source, task, run=run)
        return rt.LwF(**warm, **LWF, strength=strength)(self.source, task, run=run)

    def _mixed(self, out: Path, share: float) -> rt.Checkpoint:
        a, b = (load_checkpoint(self.out / f"curve/{n}-s0") for n in ("probe/chosen", "fine-tune"))
        return rt.interpolate(a, b, share).save(out)

    def _plain(self, out: Path, seed: int, name: str, source: rt.Checkpoint, shots: int | None) -> rt.Checkpoint:
        strategies = {
            "linear-probe": rt.LinearProbe(),
            "fine-tune": rt.FineTune(head="new", **FINE_TUNE),
            "lwf": rt.LwF(head="new", **LWF),
        }
        return strategies[name](source, self.task(seed, shots), run=self.run(out, seed))

    def _scratch(self, out: Path, seed: int, shots: int) -> rt.Checkpoint:
        method = rt.Fast(**SCRATCH)
        return method(self.task(seed, shots), network=self.source.card.network.name, run=self.run(out, seed))

    def _chosen_strength(self) -> float:
        """The strength with the best val PGD-10 accuracy at seed 0; what choosing cost is written beside the cells."""
        file = self.out / "curve/lwf/choice.json"
        if not file.exists():
            val = self.task(0).val.at_size(self.source.input_size)
            figures = {}
            validation = Validation(val, rt.Threat.parse(THREATS[0]), rt.Run(), limit=len(val))
            for strength in STRENGTHS:
                model = load_checkpoint(self.out / f"curve/lwf/strength-{strength:g}-s0").classifier
                figures[f"{strength:g}"] = validation(model)
            write_json(
                file,
                {
                    "figures": figures,
                    "adversarial_examples": validation.adversarial_examples,
                    "passes": validation.passes,
                },
            )
        figures = json.loads(file.read_text())["figures"]
        return float(max(figures, key=lambda s: figures[s]["robust_accuracy"]))

    def make(self, name: str, build: Callable[[Path, int], rt.Checkpoint]) -> None:
        folder, seed = self.out / name, int(name.rpartition("-s")[2])
        wanted = {t: folder / t.replace(":", "-").replace("/", "-") for t in THREATS}
        if all((f / "evaluation.json").exists() for f in wanted.values()):
            return
        finished = (folder / "model.safetensors").exists() and (folder / "card.json").exists()
        model = load_checkpoint(folder) if finished else build(folder, seed)
        test = self.task(seed).test
        for threat, out in wanted.items():
            if not (out / "evaluation.json").exists():
                result = rt.evaluate(
                    model, test, threat=threat, attack=ATTACK, examples=self.examples, run=rt.Run(seed=0)
                )
                result.save(out)
        print(name, "done", flush=True)


GROUPS = ("curves", "chosen", "natural", "few", "scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="bundled")
    parser.add_argument("--twin")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(GROUPS), help="groups of cells: " + ", ".join(GROUPS))
    parser.add_argument("--examples", type=int, help="test images (all if left out)")
    given = parser.parse_args()
    twin = rt.load_source(given.twin) if given.twin else None
    study = Study(rt.load_source(given.source), twin, given.data, given.out, given.examples)
    for group in given.only.split(","):
        for name, build in getattr(study, group)():
            study.make(name, build)


if __name__ == "__main__":
    main()
