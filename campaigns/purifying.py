"""Defences around a network: purified inputs, detectors that reject, and heads that pull features to fixed points."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TotalVariation(nn.Module):
    """Steps down the total variation, on a copy without a gradient (Guo et al. 2018)."""

    def __init__(self, steps: int = 10, size: float = 0.02, *, smooth: bool = False) -> None:
        super().__init__()
        self.steps, self.size, self.smooth = steps, size, smooth

    def forward(self, x: Tensor) -> Tensor:
        at = x.detach()
        for _ in range(self.steps):
            down = F.pad((at[..., 1:, :] - at[..., :-1, :]).sign(), (0, 0, 1, 1))
            right = F.pad((at[..., 1:] - at[..., :-1]).sign(), (1, 1))
            at = (at + self.size * (down[..., 1:, :] - down[..., :-1, :] + right[..., 1:] - right[..., :-1]) / 4).clamp(
                0, 1
            )
        return x + (at - x).detach() if self.smooth else at


class Codebook(nn.Module):
    """Patches of 2 x 2 pixels become the nearest of a book of training patches (Moosavi-Dezfooli et al. 2018; Kou et al.)."""

    def __init__(self, x: Tensor, size: int, seed: int, *, smooth: bool = False) -> None:
        super().__init__()
        patches = self._cut(x).transpose(1, 2).reshape(-1, 12)
        some = torch.randperm(len(patches), generator=torch.Generator().manual_seed(seed))[:size]
        self.register_buffer("book", patches[some])
        self.smooth = smooth

    @staticmethod
    def _cut(x: Tensor) -> Tensor:
        return F.unfold(x, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        book, patches = cast(Tensor, self.book), self._cut(x).transpose(1, 2)
        nearest = torch.cdist(patches, book.expand(len(x), -1, -1)).argmin(2)
        clean = F.fold(book[nearest].transpose(1, 2), x.shape[-1], 2, stride=2)
        return x + (clean - x).detach() if self.smooth else clean


class Projected(nn.Module):
    """Projection onto the first principal components of the training images (Bhagoji et al. 2018): it has a gradient."""

    def __init__(self, x: Tensor, count: int) -> None:
        super().__init__()
        flat = x.flatten(1)
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("axes", torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:count])

    def forward(self, x: Tensor) -> Tensor:
        mean, axes = cast(Tensor, self.mean), cast(Tensor, self.axes)
        return (((x.flatten(1) - mean) @ axes.T) @ axes + mean).view_as(x)


class Distance(nn.Module):
    """Distance of the features from the nearest class mean, relative to the training images' (Lee et al. 2018)."""

    def __init__(self, net: nn.Module, x: Tensor, y: Tensor, quantile: float) -> None:
        super().__init__()
        self.net = net
        with torch.no_grad():
            z = net.features(x)  # type: ignore[operator]
            self.register_buffer("means", torch.stack([z[y == k].mean(0) for k in range(10)]))
            self.register_buffer("limit", self._from(z).quantile(quantile))

    def _from(self, z: Tensor) -> Tensor:
        return torch.cdist(z, cast(Tensor, self.means)).amin(1)

    def forward(self, x: Tensor) -> Tensor:
        """How far above the limit, ``(B,)``; what is positive is rejected."""
        features: Tensor = self.net.features(x)  # type: ignore[operator]
        return self._from(features) / cast(Tensor, self.limit) - 1


class Rejecting(nn.Module):
    """An eleventh class for what the detector rejects (Grosse et al. 2017; Tramèr 2022)."""

    def __init__(self, net: nn.Module, detector: Distance) -> None:
        super().__init__()
        self.net, self.detector = net, detector

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        top = logits.amax(1, keepdim=True) + 50 * self.detector(x)[:, None]
        return torch.cat([logits, top], 1)


class FallBack(nn.Module):
    """What the detector rejects is answered by the label of the nearest training image, as a number without a gradient."""

    def __init__(self, net: nn.Module, detector: Distance, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.net, self.detector = net, detector
        self.register_buffer("x", x.flatten(1))
        self.register_buffer("y", y)

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x.flatten(1), cast(Tensor, self.x)).argmin(1)
        answer = 10.0 * F.one_hot(cast(Tensor, self.y)[nearest], 10)
        return torch.where((self.detector(x) > 0)[:, None], answer, self.net(x))


class Stable(nn.Module):
    """A differential equation after the features, whose fixed points are the classes (Kang et al. 2021: SODEF).

    Features flow to the class that they are nearest to by angle: what little of an attack's gradient comes back through
    the flow says nothing. ``time`` in steps.
    """

    def __init__(self, net: nn.Module, time: int = 50, sharp: float = 200.0) -> None:
        super().__init__()
        self.net, self.time, self.sharp = net, time, sharp

    def forward(self, x: Tensor) -> Tensor:
        state: Tensor = self.net(x).softmax(1)
        for _ in range(self.time):
            state = state + 0.9 * ((self.sharp * state).softmax(1) - state)
        return 10 * state


class Remembering(nn.Module):
    """Answers what looks like an earlier query as it did then (Chen et al. 2020; Li et al. 2022, Blacklight)."""

    def __init__(self, net: nn.Module, close: float) -> None:
        super().__init__()
        self.net, self.close = net, close
        self.seen: list[Tensor] = []
        self.answers: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        if self.seen:
            far = (x.detach()[:, None] - torch.cat(self.seen)[None]).flatten(2).abs().amax(2)
            nearest = far.min(1)
            known = torch.cat(self.answers)[nearest.indices]
            logits = torch.where((nearest.values <= self.close)[:, None], known, logits)
            fresh = nearest.values > self.close
        else:
            fresh = torch.ones(len(x), dtype=torch.bool)
        self.seen.append(x.detach()[fresh])
        self.answers.append(logits.detach()[fresh])
        return logits
