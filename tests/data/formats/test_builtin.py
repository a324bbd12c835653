"""scikit-learn's digits: a fixed test split, and shots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_helpers import counts

from robust_transfer.data import load_task
from robust_transfer.data.formats import builtin


def test_a_fixed_split_of_scikit_learns_digits() -> None:
    from sklearn.datasets import load_digits

    task, other = load_task("builtin:digits"), load_task("builtin:digits", seed=7)
    assert task.class_names == tuple("0123456789")
    assert len(task.train) + len(task.val) + len(task.test) == 1797
    assert abs(len(task.test) / 1797 - 1 / 3) < 0.04  # 3.6 standard deviations
    assert abs(len(task.val) / (len(task.train) + len(task.val)) - 0.1) < 0.035
    assert torch.equal(task.test.ids, other.test.ids)
    assert not torch.equal(task.val.ids, other.val.ids)
    digits = load_digits()
    assert task.test.labels.tolist() == digits.target[task.test.ids].tolist()
    share = np.array(counts(task.test)) / np.bincount(digits.target)
    assert np.abs(share - 1 / 3).max() < 0.13
    grey = np.floor(digits.images[task.train.ids] * 255 / 16 + 0.5)
    np.testing.assert_array_equal(task.train.images()[:, 0], grey)
    np.testing.assert_array_equal(task.train.images()[:, 2], grey)
    assert int(task.train.images().max()) == 255


def test_they_are_found_where_another_version_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = builtin._digits_table()
    monkeypatch.setattr(builtin, "find_spec", lambda _: None)
    np.testing.assert_array_equal(builtin._digits_table(), direct)


def test_shots() -> None:
    few, more = load_task("builtin:digits", shots=4), load_task("builtin:digits", shots=10)
    assert counts(few.train) == [4] * 10
    assert len(few.val) == 0
    assert few.val.images().shape == (0, 3, 8, 8)
    assert counts(more.train) == [8] * 10
    assert counts(more.val) == [2] * 10
    assert set(few.train.ids.tolist()) <= set(torch.cat([more.train.ids, more.val.ids]).tolist())
    assert few.test.hash == more.test.hash
    assert not set(torch.cat([more.train.ids, more.val.ids]).tolist()) & set(more.test.ids.tolist())
    assert load_task("builtin:digits", shots=4, seed=1).train.hash != few.train.hash
    assert load_task("builtin:digits", shots=4).train.hash == few.train.hash
