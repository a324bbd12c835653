"""Preprocessing: from an image as it is stored to what a network reads. It belongs to the network, not to the target data."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from robust_transfer.config import config
from robust_transfer.errors import ConfigError

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@config
class Normalisation:
    """Normalisation of pixels in [0, 1] to a network's input, part of the network: attacks see [0, 1].

    ``per_image`` standardises each image by its own mean and deviation (at least ``1 / sqrt(C * H * W)``), as the
    transfer paper's network does; otherwise ``mean`` and ``std`` are per channel.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    per_image: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise ConfigError("normalisation needs one mean and one positive std per channel")


CIFAR10 = Normalisation(mean=CIFAR_MEAN, std=CIFAR_STD)


@config
class Preprocessing:
    """Resizing to a square of ``size`` pixels, before an attack, and normalisation, after it.

    ``resize``: ``squash`` takes the whole image, whatever its shape. ``interpolation`` is Pillow's.
    """

    size: int
    normalisation: Normalisation = CIFAR10
    resize: Literal["squash"] = "squash"
    interpolation: Literal["bicubic"] = "bicubic"

    def __post_init__(self) -> None:
        if len(self.normalisation.mean) not in (1, 3):  # images are RGB
            raise ConfigError(f"normalisation needs 3 channels (or 1 for all), not {len(self.normalisation.mean)}")
        if not 4 <= self.size <= 4096:
            raise ConfigError(f"input_size must be between 4 and 4096 pixels, not {self.size}")


class Normalise(nn.Module):
    """Applies a :class:`Normalisation`; it has no parameters and nothing in it is learned."""

    mean: Tensor
    std: Tensor

    def __init__(self, how: Normalisation) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("mean", torch.tensor(how.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(how.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels ``(B, C, H, W)`` in [0, 1] to network inputs of the same shape."""
        if self.how.per_image:
            flat = x.flatten(1)
            floor = flat.shape[1] ** -0.5 / 255  # it is 1 / sqrt(n) for pixels from 0 to 255
            mean, std = flat.mean(1), flat.std(1, correction=0).clamp_min(floor)
            return (x - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)
        return (x - self.mean) / self.std
