"""Training of a few weights by name: those move, all others stay, and what a network lacks is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from helpers import QUIET, make_source
from torch import nn

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.strategies import BitFit, NormOnly, Strategy, transfer

SETTINGS = {"epochs": 2, "head": "new", "l2": 0.1, "learning_rate": 0.05}
Which = Callable[[nn.Module, str], bool]
CASES: list[tuple[type[Strategy], Which]] = [
    (NormOnly, lambda module, _: isinstance(module, nn.BatchNorm2d)),
    (BitFit, lambda _, name: name == "bias"),
]


@pytest.mark.parametrize(("strategy", "trained"), CASES)
def test_named_weights_move_and_all_others_stay(strategy: type[Strategy], trained: Which, task: Task) -> None:
    source = make_source()
    result = transfer(source, task, strategy.from_settings(SETTINGS), run=QUIET)
    before, after = source.classifier.body, result.classifier.body
    counted = sum(p.numel() for p in result.classifier.head.parameters())
    for path, module in before.named_modules():
        for name, value in module.named_parameters(recurse=False):
            same = torch.equal(value, after.get_submodule(path).get_parameter(name))
            assert same is not trained(module, name), f"{path}.{name}"
            counted += value.numel() * trained(module, name)
        for name, value in module.named_buffers(recurse=False):
            assert torch.equal(value, after.get_submodule(path).get_buffer(name)), "statistics are the source's"
    assert result.card.metrics["trained_parameters"] == counted


def test_statistics_may_adapt_with_their_norms(task: Task) -> None:
    source = make_source()
    result = transfer(source, task, NormOnly.from_settings({**SETTINGS, "batch_norm": "train"}), run=QUIET)
    moved = {
        name for name, value in result.classifier.body.named_buffers()
        if not torch.equal(value, source.classifier.body.get_buffer(name))
    }  # fmt: skip
    assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var", "num_batches_tracked"}


class Plain(nn.Module):
    """A network without norms and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layers(x))
        return out


@pytest.mark.parametrize("strategy", [NormOnly, BitFit])
def test_a_network_without_such_weights_is_refused(strategy: type[Strategy], source: Checkpoint, task: Task) -> None:
    classifier = Classifier.from_module(Plain(), Preprocessing(size=8))
    card = dataclasses.replace(source.card, network=classifier.spec)
    with pytest.raises(ConfigError, match="nothing to train"):
        transfer(Checkpoint(classifier, card), task, strategy.from_settings(SETTINGS), run=QUIET)
