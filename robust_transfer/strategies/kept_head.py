"""Source's head kept for a task of the same classes, its rows in the task's order."""

from __future__ import annotations

import torch
from torch import nn

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import Task
from robust_transfer.mixed_head import MixedHead


def kept_head(source: Checkpoint, task: Task) -> Classifier:
    """Copy of the source's classifier, with the head's rows in the task's order of classes.

    Classes of other names (``head=keep``) keep their positions, as no name matches them.
    """
    classifier, names = source.classifier.copy(), source.card.class_names
    if names == task.class_names or sorted(names) != sorted(task.class_names):
        return classifier
    rows = torch.tensor([names.index(name) for name in task.class_names])
    linear = [layer for layer in classifier.head.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for last in linear if isinstance(classifier.head, MixedHead) else linear[-1:]:
            for values in (last.weight, last.bias):
                values.copy_(values[rows])
    return classifier
