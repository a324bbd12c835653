"""A source's own shift: on its own images only, once, and kept by what it depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import QUIET, make_digits, make_source, noting
from torch import Tensor

from robust_transfer.attacks.source_features import feature_drift, feature_shift
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.compiling import VARIABLE
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.data.fingerprints import NONE
from robust_transfer.ranking import own_shift
from robust_transfer.strategies import feature_shift as module
from robust_transfer.threat import Threat
from robust_transfer.trained_on import Level, TrainedOn, trained_on

THREAT = Threat.parse("linf:8/255")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "compiled"))


def parts(digits: Task) -> tuple[Task, Task]:
    """Two tasks without an image in common: what the source knows, and the rest."""
    known = replace(digits, train=digits.train.subset(torch.arange(40)), val=digits.val.subset(torch.arange(10)))
    rest = replace(digits, train=digits.train.subset(torch.arange(40, 80)), val=digits.val.subset(torch.arange(10, 20)))
    return known, rest


def made_on(task: Task) -> Checkpoint:
    return replace(make_source(), trained_on=trained_on(task))


def ids(split: Split | None) -> list[int]:
    assert split is not None
    return sorted(split.ids.tolist())


def test_its_own_images_are_known_by_content() -> None:
    known, rest = parts(make_digits())
    source = made_on(known)
    both = replace(known, train=rest.train, val=known.val)
    assert ids(own_shift.own_images(source, [rest, both])) == ids(known.val)
    assert own_shift.own_images(source, [rest]) is None
    assert own_shift.own_images(source, []) is None
    assert own_shift.own_images(make_source(), [known]) is None, "nobody knows what it was trained on"
    only_train = replace(source, trained_on=TrainedOn((Level(known.train.fingerprints, NONE),)))
    assert ids(own_shift.own_images(only_train, [rest, known])) == ids(known.train)
    inherited = replace(source, trained_on=TrainedOn((Level(NONE), Level(known.train.fingerprints))))
    assert own_shift.own_images(inherited, [known]) is None, "those of its source are not its own"


def test_it_is_measured_once_and_known_without_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    known, rest = parts(make_digits())
    source, calls = made_on(known), list[Any]()
    monkeypatch.setattr(module, "feature_shift", noting(calls, feature_shift))
    assert own_shift.own_shifts(source, [rest], THREAT, QUIET) is None
    assert not calls, "nobody else's image is attacked"
    found = own_shift.own_shifts(source, [rest, known], THREAT, QUIET)
    assert len(calls) == 1
    again = own_shift.own_shifts(source, [], THREAT, QUIET)
    assert len(calls) == 1
    assert found is not None
    assert again is not None
    assert torch.equal(found, again)
    assert own_shift.own_shifts(source, [], Threat.parse("linf:4/255"), QUIET) is None
    assert own_shift.own_shifts(replace(make_source(seed=1), trained_on=source.trained_on), [], THREAT, QUIET) is None


def test_shifts_are_reached_by_no_random_noise() -> None:
    known, _ = parts(make_digits())
    source = made_on(known)
    shifts = own_shift.own_shifts(source, [known], THREAT, QUIET)
    assert shifts is not None
    assert len(shifts) == len(known.val)
    x = to_pixels(known.val.images())
    with torch.no_grad():
        clean = source.classifier.features(x)

        def moved(start: int) -> Tensor:
            noisy = THREAT.random_start(x, known.val.ids, seed=start, purpose="noise")
            found: Tensor = (source.classifier.features(noisy) - clean).norm(dim=1)
            return found

        noise = torch.stack([moved(start) for start in range(20)]).amax(0)
    assert bool((shifts > noise).all())


def test_drift_is_the_shift_by_the_features_length() -> None:
    source, split = make_source(), make_digits().val.subset(torch.arange(6))
    x, _, numbers = split.on("cpu")
    clean, shift = feature_shift(source.classifier, x, numbers, THREAT, steps=3, seed=0)
    with torch.no_grad():
        assert torch.allclose(clean, source.classifier.features(x))
    drift = feature_drift(source.classifier, x, numbers, THREAT, steps=3, seed=0)
    assert torch.equal(drift, shift.norm(dim=1) / clean.norm(dim=1))
