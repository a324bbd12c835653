"""What is load_or_compute: the same tensors, made once, and made again where the file is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_classifier, make_digits, noting
from torch import Tensor

from robust_transfer.cache import load_or_compute
from robust_transfer.config import digest
from robust_transfer.run import Run
from robust_transfer.strategies import features as features_module
from robust_transfer.strategies import features_of


def test_it_is_made_once_and_again_where_it_is_damaged(tmp_path: Path) -> None:
    made = list[int]()

    def make() -> dict[str, Tensor]:
        made.append(1)
        return {"a": torch.arange(6.0).view(2, 3).T}

    first, second = (load_or_compute(tmp_path, "things", "key", make) for _ in range(2))
    assert torch.equal(first["a"], second["a"])
    assert len(made) == 1
    load_or_compute(tmp_path, "things", "other", make)
    assert len(made) == 2
    (tmp_path / "things" / "key.safetensors").write_bytes(b"half")
    assert torch.equal(load_or_compute(tmp_path, "things", "key", make)["a"], first["a"])
    assert len(made) == 3
    load_or_compute(None, "things", "key", make)
    assert len(made) == 4


def test_digests_are_of_content() -> None:
    assert digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    different = {digest("a", {"x": 1}), digest("b", {"x": 1}), digest("a", {"x": 2}), digest("a", {"x": "1"})}
    assert len(different) == 4


def test_features_are_remembered_by_all_that_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = list[Any](), features_module._computed
    monkeypatch.setattr(features_module, "_computed", noting(made, real))
    run = Run(quiet=True, cache=tmp_path, precision="float32")
    task, classifier = make_digits(train=40, val=20, test=0), make_classifier()
    first = features_of(classifier, task.train, run)
    assert torch.equal(features_of(classifier, task.train, run), first)
    assert torch.equal(features_of(classifier.with_head(3), task.train, run), first), "the head has no part in it"
    assert torch.equal(features_of(classifier, task.train, Run(quiet=True, precision="float32")), first)
    assert len(made) == 2
    features_of(classifier, task.val, run)
    features_of(make_classifier(seed=1), task.train, run)
    features_of(classifier, task.train, Run(quiet=True, cache=tmp_path, precision="bfloat16"))
    with torch.no_grad():
        classifier.body.conv1.weight.mul_(2)  # type: ignore[operator, union-attr]
    features_of(classifier, task.train, run)
    assert len(made) == 6
