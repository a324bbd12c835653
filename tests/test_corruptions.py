"""Corruptions: their formulas where these are short, and noise that depends on nothing but seed, kind, severity and image."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from torch import Tensor

from robust_transfer import corruptions
from robust_transfer.corruptions import NAMES, SEVERITIES, check, corrupted, library, seconds_each, versions
from robust_transfer.errors import ConfigError, DataError

RANDOM = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "elastic_transform",
)


@pytest.fixture(scope="module")
def images() -> Tensor:
    pytest.importorskip("imagecorruptions", reason="an extra")
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(40, 216, (4, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)


IDS = torch.tensor([7, 3, 2**40, 0])


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_corrupted_alike_alone_and_among_others(images: Tensor, name: str) -> None:
    together = corrupted(images, IDS, name, 3, seed=0)
    assert (together.shape, together.dtype) == (images.shape, torch.uint8)
    assert (together != images).any(), "nothing was corrupted"
    np.random.seed(12345)  # whatever state NumPy's stream is in
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(corrupted(images[order], IDS[order], name, 3, seed=0), together[order])
    assert torch.equal(corrupted(images[1:2], IDS[1:2], name, 3, seed=0), together[1:2])
    other = corrupted(images, IDS, name, 3, seed=1)
    assert torch.equal(other, together) == (name not in RANDOM)
    if name in RANDOM:  # the same pixels under another id are another draw
        two = corrupted(images[:1].repeat(2, 1, 1, 1), IDS[:2], name, 3, seed=0)
        assert not torch.equal(two[0], two[1])


def test_the_stream_of_numpy_is_where_it_was_and_nothing_is_printed(
    images: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    for name in NAMES:
        corrupted(images[:1, :, :, :], IDS[:1], name, 5, seed=0)
    assert np.array_equal(np.random.random(3), expected)
    assert capsys.readouterr().out == ""


def test_contrast_noise_and_pixels_are_those_of_the_paper(images: Tensor) -> None:
    """Constants of ImageNet-C's code (Hendrycks & Dietterich 2019), worked out here without it."""
    for severity, kept in zip(SEVERITIES, (0.4, 0.3, 0.2, 0.1, 0.05), strict=True):
        x = images.numpy() / 255.0
        mean = x.mean((2, 3), keepdims=True)
        exact = ((x - mean) * kept + mean) * 255
        found = corrupted(images, IDS, "contrast", severity, seed=0).numpy()
        assert np.abs(found - exact + 0.5).max() <= 0.5 + 1e-6  # cut off, not rounded
    grey = torch.full((8, 3, 64, 64), 128, dtype=torch.uint8)
    for severity, deviation in zip(SEVERITIES[:3], (0.08, 0.12, 0.18), strict=True):
        noise = corrupted(grey, torch.arange(8), "gaussian_noise", severity, seed=0).double()
        assert noise.std().item() == pytest.approx(255 * deviation, rel=0.02)
    assert len(torch.unique(corrupted(images[:1], IDS[:1], "pixelate", 5, seed=0).flatten(1))) <= 3 * 8 * 8
    assert corrupted(grey[:1], IDS[:1], "brightness", 2, seed=0).float().mean().item() == pytest.approx(128 + 51, abs=1)


def test_severities_grow(images: Tensor) -> None:
    for name in ("gaussian_noise", "shot_noise", "impulse_noise", "brightness", "contrast"):
        moved = [(corrupted(images, IDS, name, s, seed=0).float() - images.float()).abs().mean() for s in SEVERITIES]
        assert moved == sorted(moved), name


def test_the_time_is_measured_and_versions_are_named(images: Tensor) -> None:
    assert 0 < seconds_each(images[0]) < 60
    assert {"imagecorruptions-imaug", "scikit-image", "numpy"} <= set(versions())


def test_without_the_package_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"pip install 'robust-transfer\[corruptions\]'"):
        library()


def test_small_images_are_refused() -> None:
    for size in (None, 32, 224):
        check(size)
    with pytest.raises(DataError, match="32 x 32 pixels and more, and the network reads 31 x 31"):
        check(31)
    assert len(NAMES) == len(set(NAMES)) == 15
    assert corruptions.SMALLEST == 32
