"""Augmentation that settings ask for, at the images' size, and what a resumed run sees of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from helpers import make_classifier, make_digits, same_state
from training_helpers import RUN, settings

from robust_transfer.data import Augmentation
from robust_transfer.data.resized_crop import RandomResizedCrop
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining import PRETRAINING
from robust_transfer.strategies import STRATEGIES
from robust_transfer.training import NaturalObjective, TrainingSettings, fit
from robust_transfer.training.batches import Batches
from robust_transfer.training.processes import Processes


@pytest.mark.parametrize(
    ("given", "size", "expected"),
    [
        ({}, 32, Augmentation(pad=4, flip=True)),
        ({}, 63, Augmentation(pad=4, flip=True)),
        ({}, 64, RandomResizedCrop(flip=True)),
        ({"flip": False}, 224, RandomResizedCrop(flip=False)),
        ({"augment": False}, 64, Augmentation.none()),
        ({"augment": "pad-crop", "pad": 8}, 64, Augmentation(pad=8, flip=True)),
        ({"augment": "random-resized-crop"}, 32, RandomResizedCrop(flip=True)),
    ],
)
def test_the_field_crops_otherwise_from_64_pixels_on(given: dict[str, Any], size: int, expected: Any) -> None:
    made = TrainingSettings(**given)
    assert made.augmentation(size) == expected
    assert made.told(size) == ({"augmentation": str(expected)} if expected.active else {})


TRAINED = [e for registry in (STRATEGIES, PRETRAINING) for e in registry if issubclass(e.cls, TrainingSettings)]


@pytest.mark.parametrize("entry", TRAINED, ids=lambda entry: str(entry.name))
def test_other_defaults_leave_a_setting_what_it_may_be(entry: Any) -> None:
    base, own = get_type_hints(TrainingSettings), get_type_hints(entry.cls)
    assert {name: own[name] for name in base} == base


def test_another_augmentation_is_refused() -> None:
    with pytest.raises(ConfigError, match="augment"):
        TrainingSettings(augment="cutout")  # type: ignore[arg-type]


def test_batches_are_cropped_by_seed_epoch_and_example() -> None:
    train = make_digits(train=30, val=0, test=0).train.at_size(64)
    batches = Batches(train, settings(augment=True, batch_size=10), 5, Processes(torch.device("cpu")))
    [fourth] = [batch for batch in batches.after(3) if batch.step == 3]
    images = train.fetch(fourth.indices)
    expected = RandomResizedCrop()(images, fourth.ids, seed=5, epoch=1).float() / 255
    assert torch.equal(fourth.images, expected)


def test_a_resumed_run_sees_the_same_crops(tmp_path: Path) -> None:
    train, how = make_digits(train=20, val=0, test=0).train, settings(augment="random-resized-crop", batch_size=10)
    whole = fit(NaturalObjective(make_classifier(), 400), train, how, RUN)
    run = dataclasses.replace(RUN, out=tmp_path, resume=True)

    def stop(classifier: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(NaturalObjective(make_classifier(), 400), train, how, run, validate=_once(stop))
    again = fit(NaturalObjective(make_classifier(), 400), train, how, run)
    assert same_state(whole.classifier, again.classifier)


def _once(stop: Any) -> Any:
    """Validation that lets the first epoch be saved, and ends the second."""
    seen = list[int]()

    def validate(classifier: Any) -> dict[str, float]:
        seen.append(1)
        return stop(classifier) if len(seen) == 2 else {}

    return validate
