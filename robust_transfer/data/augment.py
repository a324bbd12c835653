"""Augmentation, batched on the device: random crop with zero padding and horizontal flip, addressed by example id."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_transfer import randomness
from robust_transfer.config import config
from robust_transfer.errors import ConfigError


@config
class Augmentation:
    """``pad`` pixels of zero padding before a random crop of the original size (0: none), and a random flip."""

    pad: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ConfigError(f"pad must be at least 0, not {self.pad}")

    @classmethod
    def none(cls) -> Augmentation:
        """No augmentation."""
        return cls(pad=0, flip=False)

    @property
    def active(self) -> bool:
        """True if images are changed at all."""
        return self.pad > 0 or self.flip

    def __str__(self) -> str:
        crop = f"random crop after {self.pad} pixels of zero padding" if self.pad else ""
        return ", ".join(part for part in (crop, "random flip" if self.flip else "") if part) or "none"

    def __call__(self, images: Tensor, ids: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augment uint8 or float images ``(B, C, H, W)``; ``ids`` int64 ``(B,)`` are the example ids.

        Shape and type stay; what is done to an image depends on (seed, epoch, its id) and on nothing else.
        """
        if not self.active:
            return images
        address = randomness.Address(seed=seed, purpose="augment", step=epoch)
        draws = randomness.integers(address, ids.to(images.device), 2 * (2 * self.pad + 1) ** 2, 1)[
            :, 0
        ]  # one draw: shift and flip
        flips, shift = draws % 2 == 1, draws // 2
        height, width = images.shape[-2:]
        span = 2 * self.pad + 1
        rows = torch.arange(height, device=images.device) + (shift // span)[:, None]
        columns = torch.arange(width, device=images.device).expand(len(images), -1)
        if self.flip:
            columns = torch.where(flips[:, None], width - 1 - columns, columns)
        columns = columns + (shift % span)[:, None]
        padded = F.pad(images, (self.pad,) * 4)
        batch = torch.arange(len(images), device=images.device)[:, None, None]
        picked = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2)  # channels-last in memory, which is what the networks want
