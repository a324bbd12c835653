"""Small commands of every kind, and what they begin with: digits of 8 pixels, networks of two thousand parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from sklearn.datasets import load_digits

CLASSES, EACH, HELD_OUT = 3, 10, 6
HOW = ("--threads", "1", "--quiet")
TRAINED = ("--precision", "float32", "--device", "cpu", *HOW)
OUT = "out"


@dataclass(frozen=True)
class Command:
    """A command by its arguments, and how a user goes on with it: options added to the same command, one after the other.

    ``begins``: what its output folder holds before. ``unlocked``: it writes to a folder that it does not lock, so that the
    temporary files of killed writes stay there.
    """

    name: str
    arguments: tuple[str, ...]
    goes_on: tuple[tuple[str, ...], ...] = ((),)
    begins: str | None = None
    unlocked: bool = False


RESUMED = (("--resume",),)
REPEATED = ((), ("--overwrite",))


def pretrain(name: str, method: str, *settings: str, network: str = "wrn-16-1") -> Command:
    options = [part for setting in settings for part in ("--set", setting)]
    length = ("--epochs", "2", "--batch-size", "10")
    fixed = ("--network", network, "--data", "../data", "--method", method, *length, "--out", OUT, *TRAINED)
    return Command(name, ("pretrain", *fixed, *options), RESUMED)


def transfer(strategy: str, *settings: str) -> Command:
    options = [part for setting in settings for part in ("--set", setting)]
    fixed = ("--source", "../source", "--data", "../data", "--strategy", strategy, "--out", OUT, *TRAINED)
    return Command(f"transfer {strategy}", ("transfer", *fixed, *options), RESUMED)


def export(to: str, out: str, model: str = "../probe") -> Command:
    return Command(f"export {to}", ("export", model, "--to", to, "--out", out, *HOW), REPEATED, unlocked=True)


TRAINING = ("epochs=2", "batch_size=10", "augment=false", "guard_every=2")
EVALUATE = ("evaluate", "../probe", "--data", "../data", "--attack", "pgd-2", "--source", "../source", "--out", OUT)
PLAIN = ("--red-flag-examples", "0", "--transfer-attack-examples", "0", *TRAINED)
CHECKED = ("--red-flag-examples", "2", "--transfer-attack-examples", "2", *TRAINED)
COMMANDS: tuple[Command, ...] = (
    pretrain("pretrain fast", "fast"),
    transfer("linear-probe"),
    transfer("lwf", *TRAINING),
    Command("evaluate deltas", (*EVALUATE, "--batch-size", "6", "--keep-deltas", *PLAIN), RESUMED),
    Command("evaluate more", (*EVALUATE, "--resume", "--smallest-eps", *PLAIN), begins="evaluated"),
    Command("study", ("study", "../study.yaml", "--data", "images=../data", "--out", OUT, *TRAINED), unlocked=True),
    Command("import", ("import", "../probe", "--out", OUT, "--quiet"), REPEATED),
    Command("report", ("report", "../probe", "--out", f"{OUT}/report.html", "--no-pictures", *HOW), unlocked=True),
    export("torch", f"{OUT}/model.pt2"),
    export("timm", OUT, model="../timm"),
    transfer("fine-tune", *TRAINING),
    transfer("mlp-head", "epochs=2", "width=8"),
    transfer("adversarial", *TRAINING, "threat=linf:8/255", "steps=1"),
    transfer("frontier", *TRAINING, "path=[1.0,0.1]", "heads=[0.1]", "strengths=[1.0]"),
    Command("evaluate checked", (*EVALUATE, *CHECKED), RESUMED),
    export("onnx", f"{OUT}/model.onnx"),
)
BEGINNINGS: dict[str, tuple[str, ...]] = {
    "source": pretrain("", "fast").arguments,
    "probe": transfer("linear-probe").arguments,
    "evaluated": (*EVALUATE, *PLAIN),
    "timm": pretrain("", "fast", network="test_resnet").arguments,
}
STUDY = {
    "name": "small",
    "title": "A small study",
    "paper": "none",
    "sources": {"own": {"pretrain": {"task": "digits", "network": "wrn-16-1", "set": {"epochs": 1, "batch_size": 10}}}},
    "tasks": {"digits": {"data": "images"}},
    "strategies": {
        "probe": {"strategy": "linear-probe", "each": {"l2": [1.0, 0.01]}},
        "tuned": {"strategy": "fine-tune", "set": {"epochs": 1, "batch_size": 10}},
    },
    "evaluations": {"near": {"threat": "linf:0.05", "attack": "pgd-2", "transfer_attack_examples": 0}},
    "grid": [{"source": "own", "task": "digits", "strategy": ["probe", "tuned"], "seed": [0], "evaluation": "near"}],
}


def prepare(folder: Path) -> None:
    """Write the images and the recipe that the commands read."""
    digits = load_digits()
    for label in range(CLASSES):
        images = digits.images[digits.target == label][: EACH + HELD_OUT]
        for number, pixels in enumerate(images):
            split = "train" if number < EACH else "test"
            path = folder / "data" / split / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(path)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")


def chosen(names: Sequence[str]) -> list[Command]:
    """Commands whose name begins with one of ``names``; all of them for none."""
    return [each for each in COMMANDS if not names or each.name.startswith(tuple(names))]
