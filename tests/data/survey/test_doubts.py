"""Doubts about a whole split: said where something is wrong, and nothing on honest data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robust_transfer.data.survey import describe_data


def folder(root: Path, pictures: dict[str, list[np.ndarray]]) -> Path:
    for name, images in pictures.items():
        (root / "train" / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(root / "train" / name / f"{number}.png")
    return root


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def plain(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ({"a": [noise(i) for i in range(4)]}, "all images are of one class, 'a': there is nothing to tell apart"),
        ({"a": [noise(1)] * 3, "b": [noise(1)] * 3}, "all 6 images are the same picture"),
        ({"a": [plain(i) for i in range(3)], "b": [plain(9), noise(2)]}, "4 of 5 images are of one colour each"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, pictures: dict[str, list[np.ndarray]], said: str) -> None:
    notes = describe_data(folder(tmp_path, pictures)).notes
    assert [note for note in notes if note.startswith(f"train: {said}")]


def test_few_honest_images_raise_no_doubt(tmp_path: Path) -> None:
    pictures = {"a": [noise(1)], "b": [noise(2), plain(0)]}
    assert not [note for note in describe_data(folder(tmp_path, pictures)).notes if note.startswith("train: ")]
