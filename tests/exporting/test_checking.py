"""The images that an export is checked with, and what counts as the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import make_source
from torch import Tensor

from robust_transfer.errors import ConfigError, DataError, NetworkError
from robust_transfer.exporting import checking


def test_the_photos_are_many_and_of_several_shapes() -> None:
    found, told = checking.pictures(None)
    assert len(found) == 16
    assert len({image.size for image in found}) >= 4
    assert len({image.tobytes() for image in found}) == 16
    assert "scikit-learn" in told


def test_what_is_apart_by_more_than_a_ten_thousandth_is_told() -> None:
    model, pixels = make_source(), torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        logits = model.classifier(pixels / 255)
    rows, sizes = iter(logits), list[int]()

    def run(some: Tensor, by: float = 0.0) -> tuple[Tensor, Tensor]:
        sizes.append(len(some))
        found = torch.stack([next(rows) for _ in some]).clone()
        probabilities = found.softmax(1)
        found[-1, 0] += by * float(logits.abs().max())
        return found, probabilities

    told = checking.check("this", run, model, pixels, "noise")
    assert (told["n"], told["same_class"], sizes) == (9, 9, [1, 3, 5])
    assert told["largest_difference_of_logits"] < 1e-5
    rows = iter(logits)
    assert checking.check("this", lambda some: run(some, 0.5e-4), model, pixels, "noise")
    for by in (2e-4, float("nan")):
        rows = iter(logits)
        with pytest.raises(NetworkError, match="this computes something else"):
            checking.check("this", lambda some, by=by: run(some, by), model, pixels, "noise")  # type: ignore[misc]


def test_images_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        checking.pictures(tmp_path / "no.png")
    (tmp_path / "no.png").write_bytes(b"none")
    with pytest.raises(DataError, match="cannot decode"):
        checking.pictures(tmp_path / "no.png")
    with pytest.raises(ConfigError, match="no images to check with"):
        checking.pictures([])
