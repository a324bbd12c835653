"""A network that has learnt nothing is doubted, and one that is merely weak is not."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers import make_digits, make_source, relabelled
from training_helpers import RUN

import robust_transfer as rt
from robust_transfer.data import Split, Task
from robust_transfer.errors import DataError
from robust_transfer.statistics.intervals import no_better, wilson

MARK = "no better than always saying the most frequent class"


@pytest.mark.parametrize(
    ("right", "n", "constant", "doubted"),
    [
        (8, 80, 0.1, True),
        (16, 80, 0.1, False),
        (3, 10, 0.3, False),
        (100, 200, 0.5, True),
        (9, 300, 0.01, False),
        (5, 300, 0.01, True),
    ],
)
def test_no_better_than_the_constant_classifier(right: int, n: int, constant: float, doubted: bool) -> None:
    assert no_better(wilson(right, n), constant) is doubted


def shuffled(task: Task) -> Task:
    generator = torch.Generator().manual_seed(0)

    def again(split: Split) -> Split:
        return dataclasses.replace(split, labels=split.labels[torch.randperm(len(split), generator=generator)])

    return dataclasses.replace(task, train=again(task.train), val=again(task.val))


def test_shuffled_labels_are_doubted_and_honest_ones_are_not() -> None:
    task = make_digits(train=320, val=300, test=20)
    honest, odd = (rt.transfer(make_source(), some, rt.LinearProbe(), run=RUN) for some in (task, shuffled(task)))
    assert not [event for event in honest.card.events if MARK in event]
    assert [event for event in odd.card.events if MARK in event]


def test_one_picture_under_several_labels_is_refused() -> None:
    task = make_digits(train=60, val=0, test=10)
    same = Split.in_memory(
        task.train.images()[:1].expand(60, -1, -1, -1).contiguous(), task.train.labels, task.class_names
    )
    odd = dataclasses.replace(relabelled(task, task.train.labels, task.class_names), train=same)
    strategies = rt.LinearProbe(l2=0.01), rt.FineTune(epochs=0.1, learning_rate=1e-6)
    for strategy in strategies:
        with pytest.raises(DataError, match="the same picture, with several labels"):
            rt.transfer(make_source(), odd, strategy, run=RUN)
