"""Preprocessing: normalisation by hand, timm's and torchvision's own values, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_digits

from robust_transfer.config import as_dict, build
from robust_transfer.errors import ConfigError
from robust_transfer.preprocessing import Normalisation, Normalise, Preprocessing


def test_normalisation_is_per_channel() -> None:
    normalise = Normalise(Normalisation(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0)))
    assert normalise(torch.ones(1, 3, 2, 2))[0, :, 0, 0].tolist() == [1.0, 3.0, 0.5]
    assert normalise.state_dict() == {}


def test_per_image_standardisation() -> None:
    """As tf.image.per_image_standardization of pixels from 0 to 255: population deviation, at least 1 / sqrt(n)."""
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    x[1] = x[1] * 1e-5 + 0.5
    pixels = x.numpy().reshape(4, -1)
    deviation = np.maximum(pixels.std(1, ddof=0), 192**-0.5 / 255)
    expected = (pixels - pixels.mean(1, keepdims=True)) / deviation[:, None]
    found = Normalise(Normalisation(per_image=True))(x)
    np.testing.assert_allclose(found.numpy().reshape(4, -1), expected, rtol=1e-9, atol=1e-10)
    assert float(found[0].std(correction=0)) == pytest.approx(1)
    assert float(found[1].std(correction=0)) < 0.1


def test_mmas_standardisation() -> None:
    """As Ding et al. 2020 have it: sample deviation of pixels from 0 to 1, at least 1 / sqrt(n)."""
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    x[1] = x[1] * 0.01 + 0.5
    pixels = x.numpy().reshape(4, -1)
    deviation = np.maximum(pixels.std(1, ddof=1), 192**-0.5)
    expected = (pixels - pixels.mean(1, keepdims=True)) / deviation[:, None]
    how = Normalisation(per_image=True, unbiased=True)
    np.testing.assert_allclose(Normalise(how)(x).numpy().reshape(4, -1), expected, rtol=1e-9, atol=1e-10)
    assert as_dict(how)["unbiased"] is True
    assert "unbiased" not in as_dict(Normalisation(per_image=True))
    with pytest.raises(ConfigError, match=r"unbiased .* needs per_image"):
        Normalisation(unbiased=True)


@pytest.mark.parametrize("unbiased", [False, True])
def test_per_image_gradients_exist_even_for_a_black_image(unbiased: bool) -> None:
    x = torch.zeros(2, 3, 8, 8, requires_grad=True)
    Normalise(Normalisation(per_image=True, unbiased=unbiased))(x).square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize(
    "settings", [{"mean": (0.5,), "std": (0.5, 0.5)}, {"std": (0.5, 0.0, 0.5)}, {"mean": (), "std": ()}]
)
def test_normalisation_needs_a_mean_and_a_positive_std_each(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="one mean and one positive std"):
        Normalisation(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 3}, "between 4 and 4096 pixels, not 3"),
        ({"size": 4097}, "between 4 and 4096"),
        ({"normalisation": Normalisation(mean=(0.5, 0.5), std=(1.0, 1.0))}, "needs 3 channels"),
        ({"resize": "pad"}, "resize"),
        ({"interpolation": "random"}, "interpolation"),
        ({"resize": "crop", "short": 3}, "short must be between 4 and 4096 pixels, not 3"),
    ],
)
def test_preprocessing_that_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Preprocessing, {"size": 8, **settings}, "preprocessing")


def test_a_task_is_prepared_at_the_networks_size() -> None:
    task = make_digits(train=6, val=4)
    prepared = task.prepared(Preprocessing(size=12))
    assert [split.size for split in (prepared.train, prepared.val, prepared.test)] == [12, 12, 12]
    assert torch.equal(prepared.train.images(), task.train.at_size(12).images())


def test_a_cards_entry_is_what_it_was_unless_something_is_cropped() -> None:
    normalisation = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616], "per_image": False}
    squashed = {"size": 32, "normalisation": normalisation, "resize": "squash", "interpolation": "bicubic"}
    assert as_dict(Preprocessing(size=32)) == squashed
    cropped = Preprocessing(size=32, resize="crop", short=36, interpolation="bilinear")
    assert as_dict(cropped) == {**squashed, "resize": "crop", "interpolation": "bilinear", "short": 36}


def test_geometries_are_equal_where_their_pixels_are() -> None:
    assert Preprocessing(size=32, short=32).geometry == Preprocessing(size=32).geometry
    different = [
        Preprocessing(size=32),
        Preprocessing(size=32, short=36),
        Preprocessing(size=32, resize="crop"),
        Preprocessing(size=32, resize="crop", short=36),
        Preprocessing(size=32, interpolation="bilinear"),
        Preprocessing(size=36),
    ]
    assert len({how.geometry for how in different}) == len({str(how.geometry) for how in different}) == 6


def test_the_pixels_of_a_threat_are_said() -> None:
    said = Preprocessing(size=224, resize="crop", short=256, interpolation="bilinear").threat_pixels
    assert said == (
        "a threat is on the 224 x 224 pixels that the network reads, "
        "after the shorter side to 256 pixels (bilinear), then the central 224 x 224"
    )


@pytest.mark.parametrize(
    ("name", "test", "size", "resize", "short", "interpolation"),
    [
        ("resnet50.tv_in1k", False, 224, "crop", 256, "bilinear"),
        ("resnet50.a1_in1k", False, 224, "crop", 235, "bicubic"),
        ("resnet50.a1_in1k", True, 288, "crop", 288, "bicubic"),
        ("dm_nfnet_f0.dm_in1k", False, 192, "squash", 213, "bicubic"),
        ("volo_d5_512.sail_in1k", False, 512, "crop", 445, "bicubic"),
    ],
)
def test_timms_values(name: str, test: bool, size: int, resize: str, short: int, interpolation: str) -> None:
    from timm.models import get_pretrained_cfg

    cfg = get_pretrained_cfg(name)
    assert cfg is not None
    for given in (cfg, cfg.to_dict()):
        found = Preprocessing.from_timm(given, test=test)
        assert (found.size, found.resize, found.short, found.interpolation) == (size, resize, short, interpolation)
        assert found.normalisation == Normalisation(mean=tuple(cfg.mean), std=tuple(cfg.std))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"crop_mode": "border"}, "crop mode 'border' is not supported"),
        ({"input_size": (3, 1024, 768)}, "only RGB squares"),
        ({"input_size": (1, 28, 28)}, "only RGB squares"),
        ({"interpolation": "random"}, "the interpolation 'random' is not supported"),
    ],
)
def test_timms_that_are_not_supported(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Preprocessing.from_timm(given)


def test_torchvisions_values() -> None:
    from torchvision.models import ResNet50_Weights, ViT_B_16_Weights

    found = Preprocessing.from_torchvision(ResNet50_Weights.IMAGENET1K_V2.transforms())
    assert (found.size, found.resize, found.short, found.interpolation) == (224, "crop", 232, "bilinear")
    assert found.normalisation == Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    found = Preprocessing.from_torchvision(ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1.transforms())
    assert (found.size, found.short, found.interpolation) == (384, 384, "bicubic")
    with pytest.raises(ConfigError, match=r"is no preset of torchvision's: give weights.transforms\(\)"):
        Preprocessing.from_torchvision(torch.nn.Identity())
