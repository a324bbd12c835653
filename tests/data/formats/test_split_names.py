"""Names of splits, each against what a person reads in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from robust_transfer.data.formats.split_names import DOMAINS, ENDINGS, SPLIT_NAMES, WORDS, FileName, file_name, role_of


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *((name, "train") for name in ("train", "Train", "TRAINING", "seg_train", "training_set", "train_images")),
        *((name, "train") for name in ("train2017", "train-set", "train images", "trainset", "train_2014")),
        *((name, "val") for name in ("val", "valid", "validation", "dev", "val2017", "Validation_Set", "valid_images")),
        *((name, "test") for name in ("test", "testing", "seg_test", "test_set", "test_images", "test-data")),
        *(
            (name, None)
            for name in ("train_mini", "pre-train", "trains", "test tubes", "tested", "cat", "eval", "holdout")
        ),
        *((name, None) for name in ("test_corrupted", "train2", "latest", "contest", "train (1)", "")),
    ],
)
def test_whole_names_of_splits(name: str, role: str | None) -> None:
    assert role_of(name) == role


@pytest.mark.parametrize(
    ("stem", "found"),
    [
        ("train", FileName("", "train")),
        ("train-00001-of-00003", FileName("", "train", 1, 3)),
        ("train-00000-of-00002-a09b74b3ef9c3b56", FileName("", "train", 0, 2)),
        ("pets_test", FileName("pets", "test")),
        ("my-pets-validation-3", FileName("my-pets", "val", 3)),
        ("train2017", FileName("", "train")),
        ("train.7", FileName("", "train", 7)),
        ("test_images_0", FileName("", "test", 0)),
        *((stem, None) for stem in ("train_mini-00000-of-00001", "train-00000-of-00001 (1)", "0000", "data", "latest")),
    ],
)
def test_names_of_files(stem: str, found: FileName | None) -> None:
    assert file_name(stem) == found


def test_the_page_states_the_whole_list() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    stated = set(re.findall(r"`([a-z0-9_]+)`", page))
    assert set(ENDINGS) | DOMAINS | {word for words in WORDS.values() for word in words} <= stated
    for role, words in WORDS.items():
        assert f"- {role}: {', '.join(f'`{word}`' for word in words)}\n" in page
    product = {
        f"{word}{glue}{end}" for words in WORDS.values() for word in words for glue in ("", "_") for end in ENDINGS
    }
    assert {w for ws in WORDS.values() for w in ws} | product | {
        f"seg_{w}" for ws in WORDS.values() for w in ws
    } == set(SPLIT_NAMES)
