"""The base of all attacks: its final ``__call__`` distrusts whatever a method returns.

An attack implements ``run``; the call clips the result to ball and box, checks its size, and scores it again by a
fresh float32 forward pass. Success is what that pass says, never what the method claims.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.classifier import eval_mode
from robust_transfer.config import config
from robust_transfer.errors import NetworkError
from robust_transfer.registry import Registry
from robust_transfer.threat import Threat

NOISE = 1e-4  # relative float32 noise of a logit; a break must exceed it (see `is_broken`)


@dataclass
class Target:
    """The model under attack and how it is queried; counts what the attack costs.

    ``passes`` counts forward-equivalent image passes: 1 for a forward pass of an image, 2 with its input gradient.
    """

    model: nn.Module
    device: torch.device
    dtype: torch.dtype = torch.float32
    passes: int = 0

    def logits(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` by a float32 forward pass."""
        self.passes += len(x)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return _checked(self.model(x), x).float()

    def gradient(self, x: Tensor, labels: Tensor, loss: losses.Loss) -> tuple[Tensor, Tensor]:
        """``(logits, d loss / d x)`` at ``x``, computed in ``dtype``; weights get no gradient."""
        self.passes += 2 * len(x)
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
                logits = _checked(self.model(x), x).float()
            (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), x)
        return logits.detach(), gradient

    def broken(self, x: Tensor, labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """``(broken, margin)`` of iterates whose step computed ``logits``; in float32, asked again where it was not."""
        margin = losses.margin(logits, labels)
        broken = is_broken(logits, margin)
        if self.dtype is not torch.float32 and (margin > 0).any():
            doubtful = margin > 0
            exact = self.logits(x[doubtful])
            margin, broken = margin.clone(), broken.clone()
            margin[doubtful] = losses.margin(exact, labels[doubtful])
            broken[doubtful] = is_broken(exact, margin[doubtful])
        return broken, margin


def is_broken(logits: Tensor, margin: Tensor) -> Tensor:
    """Misclassified beyond numerical noise: the margin exceeds ``NOISE`` times the logits' range, ``(B,)``."""
    return margin > NOISE * (logits.amax(1) - logits.amin(1))


def _checked(logits: Tensor, x: Tensor) -> Tensor:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(f"the model must return logits (batch, classes) for images (batch, C, H, W), not {found}")
    return logits


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to a batch; every tensor is per example and by a fresh float32 pass.

    ``broken`` is true for an example that is misclassified when clean, or by its adversarial image beyond numerical
    noise. ``adversarial`` is in ball and box; for an example wrong when clean it is the clean image.
    """

    adversarial: Tensor
    broken: Tensor
    margin: Tensor
    clean_prediction: Tensor
    prediction: Tensor
    passes: int


@config
class Attack(ABC):
    """Base of the registered attacks. Subclasses are configurations and implement :meth:`run`."""

    @abstractmethod
    def run(self, target: Target, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Adversarial images for ``x`` ``(B, C, H, W)``, all of them correctly classified when clean."""

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> AttackResult:
        """Attack a batch. ``x`` float32 in [0, 1]; ``labels``, ``ids`` int64 ``(B,)``; ``dtype`` is that of the steps.

        The model is attacked in evaluation mode and every submodule's mode is restored.
        """
        target = Target(model, x.device, dtype)
        with eval_mode(model):
            clean_logits = target.logits(x)
            clean_prediction = clean_logits.argmax(1)
            right = (clean_prediction == labels).nonzero().squeeze(1)
            adversarial = x.clone()
            if len(right) and threat.eps > 0:
                found = self.run(target, x[right], labels[right], ids[right], threat, seed)
                adversarial[right] = _inside(found, x[right], threat)
            logits = clean_logits.clone()
            if len(right) and threat.eps > 0:
                logits[right] = target.logits(adversarial[right])
        margin = losses.margin(logits, labels)
        broken = (clean_prediction != labels) | is_broken(logits, margin)
        return AttackResult(adversarial, broken, margin, clean_prediction, logits.argmax(1), target.passes)


def _inside(found: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """``found`` clipped to the ball and the box around ``x``; anything that is not a number becomes the clean image."""
    if found.shape != x.shape:
        raise ValueError(f"an attack returned images of shape {tuple(found.shape)} for {tuple(x.shape)}")
    finite = found.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
    inside = threat.project(torch.where(finite, found, x).float(), x)
    too_large = threat.size(inside - x) > threat.eps * (1 + 1e-4) + 1e-6
    return torch.where(too_large.view(-1, 1, 1, 1), x, inside)


ATTACKS: Registry[Attack] = Registry("attack")
