"""Preprocessing: normalisation by hand, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_digits

from robust_transfer.config import build
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


def test_per_image_gradients_exist_even_for_a_black_image() -> None:
    x = torch.zeros(2, 3, 8, 8, requires_grad=True)
    Normalise(Normalisation(per_image=True))(x).square().sum().backward()
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
        ({"resize": "crop"}, "resize"),
        ({"interpolation": "nearest"}, "interpolation"),
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
