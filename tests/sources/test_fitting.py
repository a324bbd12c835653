"""The packaged source that fits the images' size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import make_classifier
from PIL import Image

from robust_transfer import sources
from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.data import Split, load_task
from robust_transfer.data.split import joined_splits
from robust_transfer.errors import CheckpointError
from robust_transfer.sources import load_source
from robust_transfer.sources.fitting import fitting
from robust_transfer.threat import Threat


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of two sizes, as the package has them."""
    root = tmp_path_factory.mktemp("package")
    for name, size in (("bundled", 32), ("bundled-64", 64)):
        classifier = make_classifier(size=size)
        card = Card(
            network=classifier.spec,
            class_names=tuple("0123456789"),
            method="pretrain:fast",
            threat=Threat.parse("linf:8/255"),
            data={"name": name},
        )
        Checkpoint(classifier, card).save(root / name)
    return root


@pytest.fixture(autouse=True)
def packaged(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.packaged, "_PACKAGE", package)


def squares(side: int, n: int = 6) -> Split:
    return Split.in_memory(torch.zeros(n, 3, side, side, dtype=torch.uint8), torch.arange(n) % 2, ("a", "b"))


@pytest.mark.parametrize(
    ("side", "expected"), [(8, "bundled"), (45, "bundled"), (46, "bundled-64"), (224, "bundled-64")]
)
def test_the_nearest_size_is_taken(side: int, expected: str) -> None:
    images = squares(side)
    assert fitting(images) == expected  # 32 * 64 = 45.25 squared
    assert load_source("auto", images=images).card.data["name"] == expected


def photos(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    for i, size in enumerate(sizes):
        part = folder / ("train" if i % 3 else "test") / "ab"[i % 2]
        part.mkdir(parents=True, exist_ok=True)
        Image.effect_noise(size, 80).convert("RGB").save(part / f"{i}.png")
    return folder


def test_of_photos_of_several_sizes_the_median_short_side_counts(tmp_path: Path) -> None:
    train = load_task(photos(tmp_path / "data", [(40, 400)] * 10 + [(90, 60)] * 14), val=0).train
    assert train.short_side == 60
    assert fitting(train) == "bundled-64"
    assert fitting(train.at_size(16)) == "bundled-64"  # as stored, whatever size they are read at


def test_what_is_not_installed_does_not_fit(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundled").symlink_to(package / "bundled")
    monkeypatch.setattr(sources.packaged, "_PACKAGE", tmp_path)
    assert fitting(squares(224)) == "bundled"
    monkeypatch.setattr(sources.packaged, "_PACKAGE", tmp_path / "none")
    with pytest.raises(CheckpointError, match="no packaged source"):
        fitting(squares(224))


def test_without_images_it_is_refused() -> None:
    with pytest.raises(CheckpointError, match="told by the images, and there are none"):
        load_source("auto")


def test_sides_of_joined_images_are_each_reader_s_own(tmp_path: Path) -> None:
    big = load_task(photos(tmp_path / "big", [(50, 70)] * 12), val=0).train
    small = squares(20, n=3)
    both = joined_splits(big, small, small.labels, torch.arange(3) + 1000)
    assert both.reader.sides(both.positions) == [(50, 70)] * len(big) + [(20, 20)] * 3
