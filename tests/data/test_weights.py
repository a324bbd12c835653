"""Weights of images: scikit-learn's, and what a split, a task and its card make of them."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from helpers import make_digits
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor

from robust_transfer.data import Split
from robust_transfer.data.weights import balanced, checked, mean
from robust_transfer.errors import DataError


def test_balanced_weights_are_scikit_learns() -> None:
    labels = torch.tensor([0] * 7 + [2] * 2 + [3])
    found = balanced(labels, 5)  # of two classes there are no images
    assert found.tolist() == pytest.approx(compute_sample_weight("balanced", labels.numpy()).tolist())
    assert float(found.mean()) == pytest.approx(1)
    assert balanced(labels[:0], 5).tolist() == []


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (torch.ones(3), "shape (3,)"),
        (torch.ones(4, 1), "shape (4, 1)"),
        (torch.tensor([1.0, -1.0, 1.0, 1.0]), "not negative"),
        (torch.tensor([1.0, float("nan"), 1.0, 1.0]), "finite"),
        (torch.zeros(4), "nothing to learn from"),
    ],
)
def test_what_are_no_weights_is_refused(weights: Tensor, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        checked(weights, 4)


def test_a_weighted_mean_is_numpys() -> None:
    values, weights = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 0.0, 3.0]).double()
    assert mean(values, weights) == pytest.approx(np.average(values, weights=weights))
    assert mean(values, None) == pytest.approx(8 / 3)


def test_weights_go_with_their_images() -> None:
    split = make_digits().train
    weighted = split.weighted(torch.arange(len(split)).double())
    chosen = torch.tensor([5, 300, 7])
    for some in (weighted.subset(chosen), weighted.at_size(16).subset(chosen)):
        assert some.weights is not None
        assert (some.weights / some.weights[0]).tolist() == pytest.approx([1, 60, 1.4])
    assert split.subset(chosen).weights is None


def test_a_balanced_task_says_so_on_the_card() -> None:
    task = make_digits()
    found = task.balanced()
    assert (task.record().get("weights"), found.record()["weights"]) == (None, "balanced")
    for split in (found.train, found.val):
        assert split.weights is not None
        shares = split.labels.bincount(split.weights)
        assert (shares / shares.sum()).tolist() == pytest.approx([0.1] * 10)
    assert found.train.hash == task.train.hash
    assert found.test.weights is None


def test_weights_of_ones_own_are_said_too() -> None:
    task = make_digits()
    first, second = (
        dataclasses.replace(task, train=task.train.weighted(torch.arange(len(task.train)) + extra)) for extra in (1, 2)
    )
    assert first.record()["weights"].startswith("given (")
    assert first.record() != second.record()


def test_val_may_be_empty() -> None:
    task = make_digits()
    none = Split.in_memory(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), torch.zeros(0), task.class_names)
    assert len(dataclasses.replace(task, val=none).balanced().val) == 0
