"""Networks that hide nothing: no red flag that doubts an attack may be raised on any of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from digit_nets import Digits, Net, fit, trained
from torch import nn

import robust_transfer as rt
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split

# What a network of no robustness earns, and what says nothing about the attack.
DESERVED = ("constant classifier is more robust", "were trained on")


@dataclass(frozen=True)
class Honest:
    name: str
    model: nn.Module | Checkpoint
    split: Split
    threat: str

    @property
    def title(self) -> str:
        return f"honest: {self.name}, {self.threat}"


def _conv(activation: nn.Module, *more: nn.Module) -> nn.Module:
    """Convolution, whatever is in ``more``, pooling and a linear head."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), *more, activation, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24 * 16, 10)
    )


def _perceptron(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 64), activation, nn.Linear(64, 10))


OWN: dict[str, tuple[Callable[[], nn.Module], float, str]] = {
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), 0.0, "linf:0.1"),
    "linear, adversarial": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), 0.1, "linf:0.1"),
    "perceptron, relu": (lambda: _perceptron(nn.ReLU()), 0.0, "linf:0.05"),
    "perceptron, tanh": (lambda: _perceptron(nn.Tanh()), 0.05, "linf:0.1"),
    "perceptron, sigmoid": (lambda: _perceptron(nn.Sigmoid()), 0.0, "l2:0.5"),
    "pooling, relu": (lambda: _conv(nn.ReLU()), 0.0, "linf:0.1"),
    "pooling, gelu": (lambda: _conv(nn.GELU()), 0.05, "linf:0.1"),
    "pooling, silu": (lambda: _conv(nn.SiLU()), 0.0, "l2:1"),
    "pooling, relu6": (lambda: _conv(nn.ReLU6()), 0.1, "linf:0.15"),
    "pooling, hardswish": (lambda: _conv(nn.Hardswish()), 0.0, "linf:0.1"),
    "pooling, softplus": (lambda: _conv(nn.Softplus()), 0.05, "l2:0.5"),
    "pooling, leaky": (lambda: _conv(nn.LeakyReLU(0.1)), 0.1, "linf:0.1"),
    "pooling, elu, dropout": (lambda: _conv(nn.ELU(), nn.Dropout(0.2)), 0.0, "linf:0.1"),
    "batch norm": (lambda: _conv(nn.ReLU(), nn.BatchNorm2d(24)), 0.05, "linf:0.15"),
    "group norm": (lambda: _conv(nn.ReLU(), nn.GroupNorm(4, 24)), 0.0, "linf:0.05"),
}
CONVOLUTIONS = (
    ("natural", 0.0, "linf:0.15"),
    ("eps 0.05", 0.05, "linf:0.1"),
    ("eps 0.1", 0.1, "linf:0.1"),
    ("eps 0.15", 0.15, "linf:0.2"),
    ("eps 0.1", 0.1, "l2:1"),
)


def on_digits(data: Digits, seed: int) -> Iterator[Honest]:
    """Twenty networks of different layers, training and threats."""
    for number, (name, (make, eps, threat)) in enumerate(OWN.items()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            model = make()
        fit(model, data, seed=seed + number, eps=eps, epochs=12)
        yield Honest(name, model, data.test, threat)
    for number, (name, eps, threat) in enumerate(CONVOLUTIONS):
        net: Net = trained(data, seed=seed + 100 + number, eps=eps, activation=F.relu)
        yield Honest(f"convolutions, {name}", net, data.test, threat)


def on_photos(folder: str, images: int, seed: int) -> Iterator[Honest]:
    """Probes of the packaged sources and learning without forgetting, on photographs."""
    task = rt.load_task(folder, shots=50, seed=seed)
    test = task.test.sample(images, seed=seed, purpose="planted")
    with tempfile.TemporaryDirectory() as place:

        def run(name: str) -> rt.Run:
            return rt.Run(out=Path(place) / name, seed=seed, quiet=True)

        bundled = rt.load_source("bundled")
        robust = rt.transfer(bundled, task, rt.LinearProbe(), run=run("robust"))
        natural = rt.transfer(rt.load_source("natural"), task, rt.LinearProbe(), run=run("natural"))
        kept = rt.transfer(bundled, task, rt.LwF(epochs=1), run=run("kept"))
        for name, made in (("probe, robust source", robust), ("probe, natural source", natural), ("lwf", kept)):
            yield Honest(name, made, test, "linf:8/255")
