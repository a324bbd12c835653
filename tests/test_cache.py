"""Cached tensors: the same as computed, computed once, and again after damage to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_classifier, make_digits, noting
from torch import Tensor

from robust_transfer import cache
from robust_transfer.cache import code_digest, load_or_compute
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
    (kept,) = (tmp_path / "things").glob("key-*.safetensors")
    kept.write_bytes(b"half")
    assert torch.equal(load_or_compute(tmp_path, "things", "key", make)["a"], first["a"])
    assert len(made) == 3
    load_or_compute(None, "things", "key", make)
    assert len(made) == 4


def test_what_a_killed_write_left_goes_with_the_next_one(tmp_path: Path) -> None:
    load_or_compute(tmp_path, "things", "key", lambda: {"a": torch.ones(2)})
    (kept,) = (tmp_path / "things").glob("key-*.safetensors")
    kept.rename(dead := kept.with_name(f".{kept.name}.0123456789ab"))
    load_or_compute(tmp_path, "things", "key", lambda: {"a": torch.ones(2)})
    assert kept.exists()
    assert not dead.exists()


def test_what_other_code_has_computed_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old head would be taken for that of a solver which has changed since."""

    def value_by(code: str, value: float) -> float:
        monkeypatch.setattr(cache, "code_digest", lambda package: code)
        return float(load_or_compute(tmp_path, "things", "key", lambda: {"a": torch.tensor(value)})["a"])

    assert [value_by("old", 1.0), value_by("new", 2.0), value_by("old", 3.0)] == [1.0, 2.0, 1.0]


def test_code_is_told_by_its_files_and_the_version_of_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(name: str, files: dict[str, str]) -> Path:
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return tmp_path / name

    packages = [{"a.py": "x = 1"}, {"a.py": "x = 2"}, {"b.py": "x = 1"}, {"sub/a.py": "x = 1"}]
    digests = [code_digest(written(str(i), files)) for i, files in enumerate(packages)]
    assert len(set(digests)) == len(packages)
    assert code_digest(written("elsewhere", packages[0])) == digests[0], "where it lies has no part in it"
    monkeypatch.setattr(torch, "__version__", "0.1")
    assert code_digest(written("other version", packages[0])) != digests[0]


def test_digests_are_of_content() -> None:
    assert digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    different = {digest("a", {"x": 1}), digest("b", {"x": 1}), digest("a", {"x": 2}), digest("a", {"x": "1"})}
    assert len(different) == 4


def test_features_are_remembered_by_all_that_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = list[Any](), features_module.rows_of
    monkeypatch.setattr(features_module, "rows_of", noting(made, real))
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
