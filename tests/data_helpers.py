"""Classes of small data sets, and what the tests count and compare in tasks."""

from __future__ import annotations

import torch
from images import picture

from robust_transfer.data import Split, Task

NAMES = ["cat", "dog", "eel"]


def balanced(n: int, classes: int = 3) -> list[int]:
    return [i % classes for i in range(n)]


def pixels(index: int, label: int = 0) -> torch.Tensor:
    return torch.from_numpy(picture(label, index)).permute(2, 0, 1)


def counts(part: Split) -> list[int]:
    return torch.bincount(part.labels, minlength=len(part.class_names)).tolist()


def assert_same(one: Task, other: Task) -> None:
    for a, b in ((one.train, other.train), (one.val, other.val), (one.test, other.test)):
        assert torch.equal(a.ids, b.ids)
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.images(), b.images())
        assert a.hash == b.hash
