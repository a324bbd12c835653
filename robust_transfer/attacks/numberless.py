"""Images of a batch that an attack could not climb from: a gradient near them was not a number."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robust_transfer.threat import Threat


@dataclass
class Numberless:
    """Mask ``near`` ``(B,)`` of the images ``x`` that have a noted point in their ball: an iterate of theirs, or of a twin."""

    x: Tensor
    threat: Threat
    near: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.near = torch.zeros(len(self.x), dtype=torch.bool, device=self.x.device)

    def note(self, points: Tensor, gradients: Tensor) -> None:
        """Note those of ``points`` whose row of ``gradients`` has an entry that is NaN or infinite."""
        for point in points[~finite(gradients)]:
            self.near |= self.threat.size(point - self.x) <= self.threat.eps * (1 + 1e-4) + 1e-6


def finite(rows: Tensor) -> Tensor:
    """Mask ``(B,)`` of the rows without NaN and infinity."""
    return rows.flatten(1).isfinite().all(1)
