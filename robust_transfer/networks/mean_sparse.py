"""MeanSparse (Amini et al. 2024): after training, values near a channel's mean are replaced by the mean."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class MeanSparse(nn.Module):
    """Values closer to their channel's ``running_mean`` than ``threshold`` deviations become it; input ``(B, C, H, W)``.

    The gradient is that of the identity. The operator's own is 0 inside the band, which hides gradients from attacks:
    RobustBench lists 72.08 % robust accuracy with it for a network that has 68.94 % with the identity's (BPDA,
    Athalye et al. 2018).
    """

    running_mean: Tensor
    running_var: Tensor
    threshold: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.zeros(channels))
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps to feature maps."""
        mean = self.running_mean.view(1, -1, 1, 1)
        band = (self.threshold * self.running_var.sqrt()).view(1, -1, 1, 1)
        return cast(Tensor, _Flattened.apply(x, mean, band))


class _Flattened(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, band: Tensor) -> Tensor:
        return torch.where((x - mean).abs() < band, mean, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None
