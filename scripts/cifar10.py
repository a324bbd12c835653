"""The CIFAR-10 run: the bundled source and a naturally trained twin, three strategies, whole curves, few images.

    python scripts/cifar10.py --data PATH/TO/cifar10 --twin runs/twin --out runs/cifar10 [--only curves,...] [--plan quick]

A cell is a run folder (weights, card), where there is something to choose `val.json`, and an evaluation for each threat.
What is there is not made again, so an interrupted run goes on where it stopped; `--done docs` also leaves out the cells
that docs/cifar10.json already has of this source. `scripts/cifar10_table.py` turns the folder into table and plot.
The twin is made by

    robust-transfer pretrain --data PATH/TO/cifar100 --network preact_resnet18_w32 --method natural --val 0 \
        --epochs 10 --set compile=true --out runs/twin
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import robust_transfer as rt
from robust_transfer.checkpoint import load_checkpoint
from robust_transfer.config import as_dict
from robust_transfer.data import Task
from robust_transfer.files import write_json
from robust_transfer.monitor import Validation
from robust_transfer.production import PATH_FILE
from robust_transfer.strategies.base import STRATEGIES, Strategy

THREATS = ("linf:8/255", "linf:4/255")
ATTACK = "pgd-20"
KEEP = 0.9
BATCH = 2500  # fewer images that fill up a batch once the broken ones have left it; verdicts do not depend on it
NAMES = ("linear-probe", "fine-tune", "lwf")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of the study.

    ``tuning`` (``few_tuning``: on few images) is shared by fine-tuning and LwF: one budget for both.

    ``lwf`` are pairs: the L2 of the probe that it starts from, the strength. A weak pull from a weak head is left out:
    even from the strong one, 0.3 keeps next to none of the robustness on val.
    """

    path: tuple[float, ...] = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
    lwf: tuple[tuple[float, float], ...] = ((1.0, 0.3), (1.0, 1.0), (1.0, 3.0), (0.1, 1.0), (0.1, 3.0))
    shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    shots: tuple[int, ...] = (10, 50)
    seeds: tuple[int, ...] = (0, 1, 2)
    tuning: dict[str, Any] = dataclasses.field(default_factory=lambda: {"head": "new", "epochs": 4.0, "compile": True})
    few_tuning: dict[str, Any] = dataclasses.field(default_factory=lambda: {"head": "new", "epochs": 50.0})
    scratch: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {"epochs": 100.0, "learning_rate": 0.05, "batch_size": 64, "select": "robust"}
    )
    val: int = 1000
    examples: int | None = None


QUICK = Plan(
    path=(0.1, 0.01),
    lwf=((0.1, 1.0), (0.1, 10.0)),
    shares=(0.5,),
    shots=(10,),
    seeds=(0, 1),
    tuning={"head": "new", "epochs": 0.5},
    few_tuning={"head": "new", "epochs": 2.0},
    scratch={"epochs": 2.0, "select": "robust"},
    val=20,
    examples=40,
)
PLANS = {"full": Plan(), "quick": QUICK}
Cell = tuple[str, Callable[[Path], rt.Checkpoint]]


def probe_cell(l2: float, seed: int) -> str:
    """The name of a probe's cell."""
    return f"curve/probe/l2-{l2:g}-s{seed}"


def lwf_cell(l2: float, strength: float, seed: int) -> str:
    """The name of an LwF cell: the L2 of the head that it starts from, its strength."""
    return f"curve/lwf/l2-{l2:g}/strength-{strength:g}-s{seed}"


def best_on_val(vals: Mapping[str, Mapping[str, float]]) -> str:
    """The study's one criterion: the most accurate cell on val among those with 90 % of the best PGD-10 accuracy on val."""
    enough = KEEP * max(val["robust_accuracy"] for val in vals.values())
    kept = {name: val for name, val in vals.items() if val["robust_accuracy"] >= enough}
    return max(kept, key=lambda name: (kept[name]["clean_accuracy"], kept[name]["robust_accuracy"]))


@dataclasses.dataclass(frozen=True)
class Study:
    """The cells, in groups: a name that ends in its seed, and what makes its folder."""

    plan: Plan
    source: rt.Checkpoint
    twin: rt.Checkpoint | None
    data: str
    out: Path
    done: dict[str, Any] = dataclasses.field(default_factory=dict)
    evaluated: dict[tuple[str, str], Path] = dataclasses.field(default_factory=dict)  # by model hash and threat

    def __post_init__(self) -> None:
        for file in self.out.rglob("linf-*/evaluation.json"):
            self._note(file.parent)

    def task(self, seed: int, shots: int | None = None) -> Task:
        return rt.load_task(self.data, shots=shots, seed=seed)

    # ------------------------------------------------------------ groups of cells

    def curves(self) -> Iterator[Cell]:
        """The probe over L2 and LwF over head and strength, from one seed; fine-tuning, and what lies between."""
        for l2 in self.plan.path:
            yield probe_cell(l2, 0), partial(self._path_point, l2=l2)
        for l2, strength in self.plan.lwf:
            yield lwf_cell(l2, strength, 0), partial(self._tuned, seed=0, l2=l2, strength=strength)
        yield "curve/fine-tune-s0", self._fine_tuned
        for share in self.plan.shares:
            yield f"curve/interpolation/{share:g}-s0", partial(self._mixed, share=share)

    def chosen(self) -> Iterator[Cell]:
        """The points chosen on val, at the other seeds."""
        probe, lwf = self._chosen_probe(), self._chosen_lwf()
        for seed in self.plan.seeds[1:]:
            yield probe_cell(probe, seed), partial(self._probe, seed=seed, l2=probe)
            yield lwf_cell(*lwf, seed), partial(self._tuned, seed=seed, l2=lwf[0], strength=lwf[1])

    def natural(self) -> Iterator[Cell]:
        """The three strategies from the natural twin."""
        for name in NAMES:
            yield f"natural/full/{name}-s0", partial(self._plain, seed=0, name=name, kind="natural")

    def few(self) -> Iterator[Cell]:
        """Few images a class: three strategies from both sources, every seed."""
        for shots in self.plan.shots:
            for kind in ("robust", "natural"):
                for name in NAMES:
                    for seed in self.plan.seeds:
                        build = partial(self._plain, seed=seed, name=name, kind=kind, shots=shots)
                        yield f"{kind}/shots-{shots}/{name}-s{seed}", build

    def scratch(self) -> Iterator[Cell]:
        """Adversarial training from scratch on the few images, early-stopped on val."""
        for shots in self.plan.shots:
            for seed in self.plan.seeds:
                yield f"scratch/shots-{shots}/fast-s{seed}", partial(self._scratch, seed=seed, shots=shots)

    # ------------------------------------------------------------ what makes a cell

    def _probe(self, out: Path, seed: int, l2: float) -> rt.Checkpoint:
        return rt.LinearProbe(l2=l2)(self.source, self.task(seed), run=_run(out, seed))

    def _path(self, out: Path) -> rt.Checkpoint:
        """All probes in one, each with its figures on val."""
        strategy = rt.LinearProbe(path=self.plan.path, choose="robust")
        return strategy(self.source, self.task(0), run=_run(out, 0))

    def _path_point(self, out: Path, l2: float) -> rt.Checkpoint:
        folder = self._folder("path-s0", self._path)
        tensors, whole = load_file(folder / PATH_FILE), load_checkpoint(folder)
        card = whole.card
        classes, features = tensors[f"{l2:.12g}/weight"].shape
        head = torch.nn.Linear(features, classes)
        head.load_state_dict({part: tensors[f"{l2:.12g}/{part}"] for part in ("weight", "bias")})
        [found] = [record for record in card.metrics["path"] if record["l2"] == l2]
        figures = {"clean_accuracy": found["val_accuracy"], "robust_accuracy": found["val_robust_accuracy"]}
        write_json(out / "val.json", figures)
        card = dataclasses.replace(card, settings={**card.settings, "l2": l2}, criterion=f"l2 given as {l2:g}")
        return rt.Checkpoint(self.source.classifier.with_layers(head).eval(), card, whole.trained_on).save(out)

    def _tuned(self, out: Path, seed: int, l2: float, strength: float) -> rt.Checkpoint:
        """LwF, and how it does on val."""
        task = self.task(seed)
        result = rt.LwF(strength=strength, l2=l2, **self.plan.tuning)(self.source, task, run=_run(out, seed))
        if not (out / "val.json").exists():
            threat = rt.Threat.parse(THREATS[0])
            validation = Validation(task.val.prepared(result.preprocessing), threat, rt.Run(), limit=self.plan.val)
            figures = validation(result.classifier)
            spent = {"adversarial_examples": validation.cost.adversarial_examples, "passes": validation.cost.passes}
            write_json(out / "val.json", {**figures, **spent})
        return result

    def _fine_tuned(self, out: Path) -> rt.Checkpoint:
        strategy = rt.FineTune(l2=self._chosen_probe(), **self.plan.tuning)
        return strategy(self.source, self.task(0), run=_run(out, 0))

    def _mixed(self, out: Path, share: float) -> rt.Checkpoint:
        l2 = self._chosen_probe()
        probe = self._folder(probe_cell(l2, 0), partial(self._path_point, l2=l2))
        tuned = self._folder("curve/fine-tune-s0", self._fine_tuned)
        return rt.interpolate(load_checkpoint(probe), load_checkpoint(tuned), share).save(out)

    def _plain(self, out: Path, seed: int, name: str, kind: str, shots: int | None = None) -> rt.Checkpoint:
        source = self.source if kind == "robust" else self.twin
        if source is None:
            raise SystemExit("give --twin")
        tuning = self.plan.few_tuning if shots else self.plan.tuning
        settings = {} if name == "linear-probe" else tuning
        strategy: Strategy = STRATEGIES.get(name).from_settings(settings)
        return strategy(source, self.task(seed, shots), run=_run(out, seed))

    def _scratch(self, out: Path, seed: int, shots: int) -> rt.Checkpoint:
        network = self.source.card.network.name
        size = self.source.input_size
        return rt.Fast(**self.plan.scratch)(
            self.task(seed, shots), network=network, input_size=size, run=_run(out, seed)
        )

    def _chosen_probe(self) -> float:
        cells = {probe_cell(l2, 0): l2 for l2 in self.plan.path}
        return cells[self._best(cells)]

    def _chosen_lwf(self) -> tuple[float, float]:
        cells = {lwf_cell(*pair, 0): pair for pair in self.plan.lwf}
        return cells[self._best(cells)]

    def _best(self, cells: Iterable[str]) -> str:
        vals = {}
        for name in cells:
            file = self.out / name / "val.json"
            if not file.exists() and name not in self.done:
                raise SystemExit(f"{file} is missing: run the group 'curves' first")
            vals[name] = json.loads(file.read_text()) if file.exists() else self.done[name]["val"]
        return best_on_val(vals)

    # ------------------------------------------------------------ making and evaluating

    def _folder(self, name: str, build: Callable[[Path], rt.Checkpoint]) -> Path:
        """The folder of a cell that others are made from, made if it is not there."""
        folder = self.out / name
        if not (folder / "model.safetensors").exists():
            build(folder)
        return folder

    def make(self, name: str, build: Callable[[Path], rt.Checkpoint]) -> None:
        folder = self.out / name
        wanted = {threat: folder / threat.replace(":", "-").replace("/", "-") for threat in THREATS}
        if name in self.done or all((f / "evaluation.json").exists() for f in wanted.values()):
            return
        model = load_checkpoint(self._folder(name, build))
        test = self.task(0).test
        for threat, out in wanted.items():
            same = self.evaluated.get((model.hash, str(rt.Threat.parse(threat))))
            if same is None:
                run = rt.Run(out=out, seed=0, resume=True, quiet=True)
                rt.evaluate(
                    model,
                    test,
                    threat=threat,
                    attack=ATTACK,
                    examples=self.plan.examples,
                    batch_size=BATCH,
                    run=run,
                    transfer_attack_examples=0,
                    red_flag_examples=0,
                )
            elif same != out:  # the probe's chosen point is one of its path
                shutil.copytree(same, out, dirs_exist_ok=True)
            self._note(out)
        print(name, "done", flush=True)

    def _note(self, folder: Path) -> None:
        found = json.loads((folder / "evaluation.json").read_text())
        self.evaluated[found["model_hash"], found["threat"]] = folder


def _run(out: Path, seed: int) -> rt.Run:
    return rt.Run(out=out, seed=seed, resume=True, quiet=True)


def published(folder: Path | None, source: rt.Checkpoint, twin: rt.Checkpoint | None) -> dict[str, Any]:
    """The published cells; refused where they are of another source or twin."""
    if folder is None:
        return {}
    study = json.loads((folder / "cifar10.json").read_text())
    other_twin = twin is not None and study["twin"] != twin.hash
    if study["source"] != source.hash or (other_twin and any(name.startswith("natural/") for name in study["cells"])):
        raise SystemExit(f"{folder / 'cifar10.json'} is of another source or twin")
    return dict(study["cells"])


GROUPS = ("curves", "chosen", "natural", "few", "scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="bundled")
    parser.add_argument("--twin")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(GROUPS), help="groups of cells: " + ", ".join(GROUPS))
    parser.add_argument("--first", default="", help="cells of the curves that are made before all others")
    parser.add_argument("--plan", choices=PLANS, default="full")
    parser.add_argument("--done", type=Path, help="folder with a published cifar10.json: leave its cells out")
    given = parser.parse_args()
    source = rt.load_source(given.source)
    twin = rt.load_source(given.twin) if given.twin else None
    study = Study(PLANS[given.plan], source, twin, given.data, given.out, published(given.done, source, twin))
    write_json(
        given.out / "study.json", {"source": source.hash, "twin": twin and twin.hash, "plan": as_dict(study.plan)}
    )
    curves = dict(study.curves())
    for name in filter(None, given.first.split(",")):
        study.make(name, curves[name])
    for group in given.only.split(","):
        for name, build in getattr(study, group)():
            study.make(name, build)


if __name__ == "__main__":
    main()
