"""Task with a subset of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from robust_transfer.data.split import Split, Task
from robust_transfer.errors import ConfigError
from robust_transfer.registry import unknown


def only_classes(task: Task, classes: Sequence[str | int]) -> Task:
    """Images of ``classes`` (names, or numbers in label order), relabelled from 0 in the given order.

    Ids stay those of the original splits. Raises :class:`ConfigError` for an unknown or repeated class.
    """
    names = task.class_names
    numbers = []
    for which in classes:
        if isinstance(which, str) and which not in names:
            raise ConfigError(unknown("class", which, list(names)))
        number = names.index(which) if isinstance(which, str) else which
        if not 0 <= number < len(names):
            raise ConfigError(f"there is no class {number}: the classes are numbered from 0 to {len(names) - 1}")
        numbers.append(number)
    if len(set(numbers)) < len(numbers) or len(numbers) < 2:
        raise ConfigError("a task needs at least 2 classes, each named once")
    place = torch.full((len(names),), -1)
    place[torch.tensor(numbers)] = torch.arange(len(numbers))
    kept = tuple(names[number] for number in numbers)
    train, val, test = (_kept(split, place, kept) for split in (task.train, task.val, task.test))
    return replace(task, train=train, val=val, test=test)


def _kept(split: Split, place: torch.Tensor, names: tuple[str, ...]) -> Split:
    some = split.subset((place[split.labels] >= 0).nonzero().squeeze(1))
    return replace(some, labels=place[some.labels], class_names=names)
