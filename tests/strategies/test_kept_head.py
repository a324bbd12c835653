"""A kept head says of every class what the source says of it, in whatever order the task has the classes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers import make_digits, make_source

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.heads import HeadSpec, new_mlp
from robust_transfer.strategies.base import keeps_head
from robust_transfer.strategies.kept_head import kept_head


def renamed(task: Task, names: tuple[str, ...]) -> Task:
    train, val, test = (dataclasses.replace(part, class_names=names) for part in (task.train, task.val, task.test))
    return dataclasses.replace(task, train=train, val=val, test=test)


def logits(source: Checkpoint | torch.nn.Module, split: Split) -> torch.Tensor:
    module = source.classifier if isinstance(source, Checkpoint) else source
    with torch.no_grad():
        return torch.as_tensor(module.eval()(to_pixels(split.images())))


@pytest.mark.parametrize("hidden", [(), (12,)])
def test_rows_follow_the_names(hidden: tuple[int, ...]) -> None:
    source, task = make_source(), make_digits(train=20, val=0, test=0)
    if hidden:
        spec = HeadSpec(hidden=hidden)
        head = new_mlp(source.classifier.num_features, 10, spec, torch.Generator().manual_seed(1))
        classifier = source.classifier.with_layers(head, spec)
        source = dataclasses.replace(source, classifier=classifier)
    order = (3, 0, 9, 1, 2, 8, 7, 4, 6, 5)
    other = renamed(task, tuple(str(i) for i in order))
    assert keeps_head(source, other, "auto")
    before = logits(source, task.train)
    torch.testing.assert_close(logits(kept_head(source, other), task.train), before[:, list(order)])
    assert torch.equal(logits(source, task.train), before)


def test_other_names_are_a_new_head_unless_it_is_asked_for() -> None:
    source, task = make_source(), make_digits(train=20, val=0, test=0)
    other = renamed(task, tuple("abcdefghij"))
    assert not keeps_head(source, other, "auto")
    assert keeps_head(source, other, "keep")
    assert torch.equal(logits(kept_head(source, other), task.train), logits(source, task.train))
