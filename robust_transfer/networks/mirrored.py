"""Features averaged over an image and its mirror image: one function of the image, at twice the cost."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

SETTING = "mirrored"  # beside a network's own settings: true, or not given


class Mirrored(nn.Module):
    """Mean of a network's features ``(B, d)`` of normalised images and of their left-right mirror images.

    Nothing in it is random, and gradients go through both views: attacks on it are attacks on the whole.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Features of normalised images."""
        return cast(Tensor, (self.body(x) + self.body(x.flip(-1))) / 2)
