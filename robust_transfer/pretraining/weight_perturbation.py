"""Adversarial weight perturbation (Wu, Xia & Wang 2020): a loss is minimised where a step on the weights has raised it.

For any method that crafts images first and then takes a loss of them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining.base import PRETRAINING, Pretraining
from robust_transfer.pretraining.crafting import CraftingObjective
from robust_transfer.threat import Threat
from robust_transfer.training import Batch


@config
class Crafting(Pretraining):
    """Base of the methods that craft images first.

    ``awp`` (the paper's gamma; 0: none): each layer's weights are first moved up the loss of the crafted images, by ``awp``
    times their own length, and the gradient is taken there; the step is taken from where they were.
    """

    awp: float = 0.0

    loss_passes: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.awp < 0:
            raise ConfigError(
                f"{PRETRAINING.name_of(type(self))} needs an awp that is not negative, not {self.awp}: 0 for none"
            )

    @property
    def training_passes(self) -> float:
        """Forward-equivalent passes per image of a step, beside those of crafting."""
        return training_passes(self.loss_passes, self.awp)


def training_passes(loss_passes: float, awp: float) -> float:
    """Passes per image of a loss and its gradient: once, and with ``awp`` once more for the step on the weights."""
    return loss_passes * (2 if awp else 1)


class PerturbedObjective(CraftingObjective):
    """Objective in two stages: images are crafted, then a loss of them is taken, ``loss_passes`` with its gradient.

    With ``awp`` that loss is taken at perturbed weights. The weights themselves are never written to: the perturbed ones
    are a function of them, so there is nothing to restore. Each of several processes perturbs by the gradient of its own
    share of the batch.
    """

    loss_passes: ClassVar[float] = 3.0

    def __init__(self, classifier: Classifier, threat: Threat, *, awp: float = 0.0) -> None:
        super().__init__(classifier, threat)
        self.awp = awp

    @abstractmethod
    def craft(self, batch: Batch) -> Tensor:
        """Adversarial images for a batch; classifier in evaluation mode and restored."""

    @abstractmethod
    def terms(self, batch: Batch, crafted: Tensor) -> dict[str, Tensor]:
        """Terms of the loss, as :meth:`forward` returns them, for images already crafted."""

    @property
    def training_passes(self) -> float:
        """Passes per image of a step, beside those of crafting."""
        return training_passes(self.loss_passes, self.awp)

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        crafted = self.craft(batch)
        if not self.awp:
            return self.terms(batch, crafted)
        weights = dict(self.classifier.named_parameters())
        moved = {name: weights[name] + by for name, by in self._perturbation(batch, crafted).items()}
        return _terms_at(self, moved, batch, crafted)

    def _perturbation(self, batch: Batch, crafted: Tensor) -> dict[str, Tensor]:
        """``awp * |w| * g / |g|`` for each layer's weights ``w`` with gradient ``g``; no batch statistic moves."""
        classifier = self.classifier
        layers = {name: p for name, p in classifier.named_parameters() if p.requires_grad and _is_layer(name, p)}
        apart = {name: values.clone() for name, values in classifier.named_buffers()}
        with torch.enable_grad():
            loss = _terms_at(self, apart, batch, crafted)["loss"]
        with torch.autocast(classifier.device.type, enabled=False):  # or the backward pass would take it up
            gradients = torch.autograd.grad(loss, list(layers.values()), materialize_grads=True)
        torch.clear_autocast_cache()  # it holds copies of the weights that belong to a graph that is gone
        return {
            name: self.awp * p.detach().norm() / gradient.norm().clamp_min(1e-20) * gradient
            for (name, p), gradient in zip(layers.items(), gradients, strict=True)
        }


def _is_layer(name: str, values: Tensor) -> bool:
    """True for the weights of a linear or convolutional layer; biases and norms are not perturbed (as released)."""
    return values.dim() > 1 and name.endswith("weight")


class _Terms(nn.Module):
    """The second stage as a module, which ``functional_call`` asks for."""

    def __init__(self, objective: PerturbedObjective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch, crafted: Tensor) -> dict[str, Tensor]:
        return self.objective.terms(batch, crafted)


def _terms_at(
    objective: PerturbedObjective, state: Mapping[str, Tensor], batch: Batch, crafted: Tensor
) -> dict[str, Tensor]:
    """Terms with the tensors of ``state`` in place of the classifier's own of these names."""
    named = {f"objective.classifier.{name}": values for name, values in state.items()}
    found: dict[str, Tensor] = functional_call(_Terms(objective), named, (batch, crafted))
    return found
