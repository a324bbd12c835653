"""Augmentation: against PIL image by image, and as a function of (seed, epoch, id) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor

from robust_transfer.data import Augmentation
from robust_transfer.errors import ConfigError


def images(n: int, size: int = 6) -> Tensor:
    return torch.from_numpy(np.random.default_rng(n).integers(1, 256, (n, 3, size, size), dtype=np.uint8))


def variants(image: Tensor, pad: int, flip: bool) -> list[Tensor]:
    """All that may become of an image, made by PIL: pad with black, crop, mirror."""
    size = image.shape[-1]
    padded = ImageOps.expand(Image.fromarray(image.permute(1, 2, 0).numpy()), pad, fill=0)
    crops = [padded.crop((x, y, x + size, y + size)) for y in range(2 * pad + 1) for x in range(2 * pad + 1)]
    crops += [ImageOps.mirror(crop) for crop in crops] if flip else []
    return [torch.from_numpy(np.asarray(crop).copy()).permute(2, 0, 1) for crop in crops]


@pytest.mark.parametrize(("pad", "flip"), [(2, True), (2, False), (0, True)])
def test_gives_each_of_pils_variants_equally_often(pad: int, flip: bool) -> None:
    image = images(1, size=4)[0]
    expected = torch.stack(variants(image, pad, flip)).flatten(1)
    per_variant = 60
    n = per_variant * len(expected)
    out = Augmentation(pad=pad, flip=flip)(image.expand(n, -1, -1, -1), torch.arange(n), seed=3, epoch=1)
    matches = (out.flatten(1)[:, None] == expected).all(-1)
    assert bool((matches.sum(1) == 1).all())  # nothing but PIL's variants; random pixels make them distinct
    counts = matches.sum(0)
    assert counts.min() > per_variant * 0.4  # five standard deviations of a Poisson count, on either side
    assert counts.max() < per_variant * 1.7


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.integers(0, 2**40), min_size=1, max_size=9, unique=True),
    seed=st.integers(0, 2**31 - 1),
    epoch=st.integers(0, 1000),
    pad=st.integers(0, 5),
    flip=st.booleans(),
)
def test_does_not_depend_on_the_rest_of_the_batch(ids: list[int], seed: int, epoch: int, pad: int, flip: bool) -> None:
    augment = Augmentation(pad=pad, flip=flip)
    batch, all_ids = images(len(ids)), torch.tensor(ids)
    together = augment(batch, all_ids, seed=seed, epoch=epoch)
    for i in range(len(ids)):
        assert torch.equal(augment(batch[i : i + 1], all_ids[i : i + 1], seed=seed, epoch=epoch)[0], together[i])
    order = torch.arange(len(ids)).flip(0)
    assert torch.equal(augment(batch[order], all_ids[order], seed=seed, epoch=epoch), together[order])


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}])
def test_changes_with_seed_and_epoch(change: dict[str, int]) -> None:
    batch, ids = images(32), torch.arange(32)
    one = Augmentation()(batch, ids, seed=0, epoch=0)
    other = Augmentation()(batch, ids, **{"seed": 0, "epoch": 0, **change})
    same = (one == other).flatten(1).all(1)
    assert int(same.sum()) <= 2  # one of 162 variants by chance


def test_uint8_and_float_agree() -> None:
    batch, ids = images(8), torch.arange(8)
    whole = Augmentation()(batch, ids, seed=0, epoch=0)
    real = Augmentation()(batch.float() / 255, ids, seed=0, epoch=0)
    assert whole.dtype == torch.uint8
    assert torch.equal(real, whole.float() / 255)


def test_none_changes_nothing() -> None:
    batch = images(4)
    assert not Augmentation.none().active
    assert Augmentation.none()(batch, torch.arange(4), seed=0, epoch=0) is batch


def test_an_empty_batch_stays_empty() -> None:
    assert Augmentation()(images(1)[:0], torch.arange(0), seed=0, epoch=0).shape == (0, 3, 6, 6)


def test_a_negative_padding_is_refused() -> None:
    with pytest.raises(ConfigError, match="pad must be at least 0"):
        Augmentation(pad=-1)
