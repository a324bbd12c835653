"""Random resized crops: the parts that torchvision draws, enlarged as torchvision enlarges them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import RandomResizedCrop as Theirs
from torchvision.transforms.v2 import functional as V

from robust_transfer.data.resized_crop import RandomResizedCrop, boxes


def images(n: int, size: int) -> Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [5, 64, 75])
def test_parts_are_enlarged_as_torchvision_does(size: int) -> None:
    given, ids = images(24, size), torch.arange(24) + 100
    found = RandomResizedCrop()(given, ids, seed=3, epoch=2)
    real = RandomResizedCrop()(given.double() / 255, ids, seed=3, epoch=2)
    assert found.dtype == torch.uint8
    for i, (top, left, height, width, flip) in enumerate(zip(*boxes(ids, size, seed=3, epoch=2), strict=True)):
        box = int(top), int(left), int(height), int(width)
        expected = V.resized_crop(
            given[i].double() / 255, *box, [size, size], InterpolationMode.BILINEAR, antialias=False
        )
        expected = expected.flip(-1) if flip else expected
        torch.testing.assert_close(real[i], expected, rtol=0, atol=1e-12)
        assert float((found[i] - 255 * expected).abs().max()) <= 0.5 + 1e-6


def test_parts_are_drawn_as_torchvision_draws_them() -> None:
    top, left, height, width, flips = boxes(torch.arange(20000), 64, seed=0, epoch=0)
    torch.manual_seed(0)
    theirs = torch.tensor([Theirs.get_params(torch.empty(3, 64, 64), [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(8000)])
    for mine, its in zip((top, left, height, width), theirs.double().unbind(1), strict=True):
        assert abs(float(mine.double().mean() - its.mean())) < 5 * float(its.std()) * (1 / 8000 + 1 / 20000) ** 0.5
        assert float(mine.double().std()) == pytest.approx(float(its.std()), rel=0.05)
    assert abs(float(flips.float().mean()) - 0.5) < 0.02
    assert bool(((top >= 0) & (left >= 0) & (top + height <= 64) & (left + width <= 64)).all())


def test_an_image_depends_on_its_address_alone() -> None:
    given, ids = images(16, 64), torch.arange(16) + 5
    one = RandomResizedCrop()(given, ids, seed=1, epoch=4)
    order = torch.tensor([3, 15, 0])
    assert torch.equal(RandomResizedCrop()(given[order], ids[order], seed=1, epoch=4), one[order])
    for seed, epoch in ((2, 4), (1, 5)):
        assert not torch.equal(RandomResizedCrop()(given, ids, seed=seed, epoch=epoch), one)
    assert RandomResizedCrop()(given[:0], ids[:0], seed=1, epoch=4).shape == (0, 3, 64, 64)


def test_without_flip_nothing_is_mirrored() -> None:
    given, ids = images(16, 64), torch.arange(16)
    plain, flipped = (RandomResizedCrop(flip=flip)(given, ids, seed=1, epoch=4) for flip in (False, True))
    flips = boxes(ids, 64, seed=1, epoch=4)[-1]
    assert torch.equal(torch.where(flips[:, None, None, None], plain.flip(-1), plain), flipped)
