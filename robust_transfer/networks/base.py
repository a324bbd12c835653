"""Base of our networks for small images: a head that timm finds, ordered groups, initialisation."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class PooledNetwork(nn.Module):
    """Feature maps, average pooling and a linear ``head``, in the form timm expects.

    Subclasses define :meth:`forward_features` and :meth:`group_matcher`, and call :meth:`finish`.
    Input ``(B, 3, H, W)``, output ``(B, num_classes)``, or the features ``(B, num_features)`` without a head.
    """

    def finish(self, num_features: int, num_classes: int, default_cfg: dict[str, Any]) -> None:
        """Pooling, head, and the initialisation of He et al. 2015 (fan out); ends a subclass's constructor."""
        self.num_features = self.head_hidden_size = num_features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reset_classifier(num_classes)
        self.default_cfg = self.pretrained_cfg = default_cfg
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.bias)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """New head, or none for 0 classes."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Head."""
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's description of the blocks: the stem, then one a unit."""
        raise NotImplementedError

    def forward_features(self, x: Tensor) -> Tensor:
        """Last feature maps, ``(B, num_features, h, w)``."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of feature maps, or with ``pre_logits`` the pooled features."""
        features = torch.flatten(self.pool(x), 1)
        return features if pre_logits else cast(Tensor, self.head(features))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalised images."""
        return self.forward_head(self.forward_features(x))


class CifarNetwork(PooledNetwork):
    """``conv1``, ``units``, an optional last norm, average pooling and a linear ``head``.

    Subclasses set ``conv1``, ``units`` (nn.Sequential) and ``last`` (applied before pooling) and call :meth:`finish`.
    """

    conv1: nn.Module
    units: nn.Sequential
    last: nn.Module

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's description of the blocks: the stem, then one a unit."""
        return {"stem": r"^conv1|^bn1", "blocks": r"^units\.(\d+)"}

    def forward_features(self, x: Tensor) -> Tensor:
        """Last feature maps, ``(B, num_features, h, w)``."""
        return cast(Tensor, self.last(self.units(self.conv1(x))))


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias that keeps the image's size (over ``stride``)."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
