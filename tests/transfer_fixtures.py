"""What the tests of transfer share: a source whose features tell digits apart, and splits that must not be read."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from conftest import make_classifier, make_digits
from torch import Tensor

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.data.split import Reader
from robust_transfer.run import Run
from robust_transfer.training import Batch

QUIET = Run(quiet=True)
NONE = torch.arange(0)


class Unreadable(Reader):
    """Images that nobody may look at."""

    native_size = 8

    def read(self, positions: Tensor, size: int) -> Tensor:
        raise AssertionError("a split was read that must not be")


def make_source(seed: int = 0, **card: Any) -> Checkpoint:
    classifier = make_classifier(seed).eval()
    names = tuple(str(i) for i in range(10))
    return Checkpoint(classifier, Card(network=classifier.spec, class_names=names, method="made", **card))


def make_task(train: int = 128, val: int = 40) -> Task:
    """Digits with an unreadable test split."""
    made = make_digits(train=train, val=val, test=10)
    return dataclasses.replace(made, test=dataclasses.replace(made.test, reader=Unreadable()))


def without_val(task: Task) -> Task:
    return dataclasses.replace(task, val=task.val.subset(NONE))


def relabelled(task: Task, labels: Tensor, names: tuple[str, ...], keep: Tensor | None = None) -> Task:
    """The training images under other labels (those at ``keep`` only), without val."""
    keep = torch.arange(len(task.train)) if keep is None else keep
    train = Split.in_memory(task.train.fetch(keep), labels[keep], names)
    return dataclasses.replace(task, train=train, val=train.subset(NONE))


def everything(task: Task) -> Batch:
    """The whole train split as one batch."""
    n = len(task.train)
    return Batch(to_pixels(task.train.images()), task.train.labels, task.train.ids, torch.arange(n), 0)
