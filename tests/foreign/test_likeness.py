"""Likeness of images to those of training: which other normaliser their contrast or brightness would speak for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robust_transfer.foreign.likeness import unlike_any


def pixels(mean: tuple[float, ...], std: tuple[float, ...], n: int = 200) -> Tensor:
    """Images of just these moments, (n, 3, 8, 8)."""
    x = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True, correction=0)
    return torch.tensor(mean).view(3, 1, 1) + torch.tensor(std).view(3, 1, 1) * x


CIFAR = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
OTHERS = ("cifar10", "cifar10-2023", "imagenet", "none", "half")


def reading(name: str, **more: str) -> dict[str, str]:
    return {"normalisation": name, **more}


@pytest.mark.parametrize("chosen", OTHERS)
def test_images_like_those_of_a_data_set_may_decide_anything(chosen: str) -> None:
    rivals = [reading(name) for name in OTHERS if name != chosen]
    assert unlike_any(pixels(*CIFAR), reading(chosen), rivals) is None


@pytest.mark.parametrize(
    ("contrast", "chosen", "rival"),
    [(0.82, "cifar10-2023", "cifar10"), (1.2, "cifar100", "cifar10")],
)
def test_another_contrast_speaks_for_another_normaliser(contrast: float, chosen: str, rival: str) -> None:
    x = pixels(CIFAR[0], tuple(contrast * each for each in CIFAR[1]))
    found = unlike_any(x, reading(chosen), [reading("half"), reading(rival)])
    assert found is not None
    assert f"normalisation {rival} explains it as well as {chosen}" in found
    assert (
        unlike_any(x, reading(chosen), [reading("none"), reading("half")]) is None
    )  # they would need odder images yet


def test_only_normalisers_are_compared() -> None:
    x = pixels(CIFAR[0], tuple(0.82 * each for each in CIFAR[1]))
    chosen = reading("cifar10-2023", activation="relu")
    assert unlike_any(x, chosen, [reading("cifar10", activation="silu"), {"activation": "silu"}]) is None
    assert unlike_any(x, chosen, [reading("per-image", activation="relu")]) is None
    assert unlike_any(x, {"activation": "relu"}, [{"activation": "silu"}]) is None
