"""Shared helpers: digits small enough to train on, tiny networks, sources, logs, splits that must not be read."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.data.readers import Reader
from robust_transfer.preprocessing import Geometry, Preprocessing
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch

torch.set_num_threads(1)  # in processes that tests start, too

QUIET = Run(quiet=True)
NONE = torch.arange(0)


def noting(notes: list[Any], call: Callable[..., Any]) -> Callable[..., Any]:
    """``call``, whose positional arguments are noted each time."""

    def noted(*given: Any, **more: Any) -> Any:
        notes.append(given)
        return call(*given, **more)

    return noted


def folder_of(run: Run) -> Path:
    """The folder that a run writes."""
    assert run.out is not None
    return run.out


def make_digits(train: int = 320, val: int = 80, test: int = 80, size: int = 8) -> Task:
    """The first digits (they come shuffled) as uint8 RGB images."""
    digits = load_digits()
    grey = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))
    images = grey[:, None].expand(-1, 3, -1, -1).contiguous()
    names = tuple(str(name) for name in digits.target_names)
    split = Split.in_memory(images, torch.from_numpy(digits.target), names)
    cuts = torch.arange(train + val + test).split([train, val, test])
    parts = [split.subset(cut) for cut in cuts]
    return Task("digits", parts[0], parts[1], parts[2]).at_size(size)


def make_classifier(seed: int = 0, name: str = "wrn_16_1", size: int = 8, **settings: Any) -> Classifier:
    """A tiny network with weights drawn from ``seed``."""
    torch.manual_seed(seed)
    return Classifier.build(
        NetworkSpec(name=name, num_classes=10, preprocessing=Preprocessing(size=size), settings=settings)
    )


def same_state(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two modules hold the same state, bit for bit."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def log_of(folder: Path, without: tuple[str, ...] = ("seconds",)) -> list[dict[str, Any]]:
    """The records of ``metrics.jsonl``."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in without} for line in lines]


class Unreadable(Reader):
    """Images that nobody may look at."""

    native_size = 8

    def read(self, positions: Tensor, how: Geometry) -> Tensor:
        raise AssertionError("a split was read that must not be")


def make_source(seed: int = 0, **card: Any) -> Checkpoint:
    classifier = make_classifier(seed).eval()
    names = tuple(str(i) for i in range(10))
    return Checkpoint(classifier, Card(network=classifier.spec, class_names=names, method="made", **card))


def make_task(train: int = 128, val: int = 40) -> Task:
    """Digits with an unreadable test split."""
    made = make_digits(train=train, val=val, test=10)
    return dataclasses.replace(made, test=dataclasses.replace(made.test, reader=Unreadable(), content=None))


def without_val(task: Task) -> Task:
    return dataclasses.replace(task, val=task.val.subset(NONE))


def relabelled(task: Task, labels: Tensor, names: tuple[str, ...], keep: Tensor | None = None) -> Task:
    """The training images under other labels (those at ``keep`` only), without val; other classes: without test, too."""
    keep = torch.arange(len(task.train)) if keep is None else keep
    train = Split.in_memory(task.train.fetch(keep), labels[keep], names)
    test = task.test if names == task.class_names else train.subset(NONE)
    return dataclasses.replace(task, train=train, val=train.subset(NONE), test=test)


def everything(task: Task) -> Batch:
    """The whole train split as one batch."""
    n = len(task.train)
    return Batch(to_pixels(task.train.images()), task.train.labels, task.train.ids, torch.arange(n), 0)


def batch_of(task: Task, step: int, size: int = 20, done: float = 0.0) -> Batch:
    """The ``step``-th ``size`` training images as a batch, as training would see them without a shuffle."""
    rows = torch.arange(step * size, step * size + size)
    x = to_pixels(task.train.fetch(rows))
    return Batch(x, task.train.labels[rows], task.train.ids[rows], rows, step, done=done)


def pgd_examples(network: torch.nn.Module, batch: Batch, eps: float, steps: int) -> Tensor:
    """PGD spelt out: from a random start, ``steps`` signed steps of a quarter of ``eps`` up the cross-entropy."""
    plain, x = copy.deepcopy(network).eval(), batch.images
    current = Threat(norm="linf", eps=eps).random_start(x, batch.ids, seed=0, purpose="train", step=batch.step)
    for _ in range(steps):
        current = current.detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(plain(current), batch.labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, current)
        current = (x + (current + 0.25 * eps * gradient.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    return current.detach()


def gradients_differ(a: torch.nn.Module, b: torch.nn.Module) -> float:
    """How far the gradients of two networks lie apart, relative to their size."""

    def flat(module: torch.nn.Module) -> Tensor:
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in module.parameters()])

    return float((flat(a) - flat(b)).norm() / flat(b).norm())
