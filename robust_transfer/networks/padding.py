"""3x3 convolutions with TensorFlow's padding, for PyTorch ports of TensorFlow networks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.networks.base import conv

PADDINGS = ("asymmetric", "symmetric")


class OneSidedConv(nn.Conv2d):
    """3x3 convolution with stride 2 and no bias, padded by one pixel at the right and below only.

    That is TensorFlow's ``SAME`` for images of even size. An image of ``n`` pixels becomes one of ``n // 2``.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps of half the size."""
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def padded_conv(inputs: int, outputs: int, stride: int, padding: str) -> nn.Conv2d:
    """3x3 convolution without bias; ``asymmetric`` padding differs from ``symmetric`` where the ``stride`` is 2.

    Raises ValueError for another padding.
    """
    if padding not in PADDINGS:
        raise ValueError(f"padding must be {' or '.join(PADDINGS)}, not {padding!r}")
    return (
        OneSidedConv(inputs, outputs) if stride == 2 and padding == "asymmetric" else conv(inputs, outputs, 3, stride)
    )
