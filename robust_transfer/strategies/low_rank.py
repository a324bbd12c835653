"""Low-rank branch beside a network's weights: in the branch, each layer's weight is its own plus a product of two."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from robust_transfer.classifier import Classifier


class LowRank(nn.Module):
    """Logits by ``W + B A / rank`` in each convolution and linear layer of a classifier's body, ``W`` without a gradient.

    A convolution's kernel ``(out, in, h, w)`` is a matrix ``(out h, in w)`` here and the product has rank ``rank * h``, as in
    the code of LoRA. ``A`` is drawn from a standard normal distribution and ``B`` is 0, so the branch begins as the network.
    Of the network itself, only the head takes gradients in the branch.
    """

    def __init__(self, classifier: Classifier, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.rank = rank
        self.paths = [
            path for path, part in classifier.body.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))
        ]
        sizes = [_sizes(classifier.body.get_submodule(path), rank) for path in self.paths]
        self.a = nn.ParameterList(torch.randn(r, columns, generator=generator) for _, columns, r in sizes)
        self.b = nn.ParameterList(torch.zeros(rows, r) for rows, _, r in sizes)

    @override
    def forward(self, classifier: Classifier, x: Tensor) -> Tensor:
        fixed = {f"body.{name}": p.detach() for name, p in classifier.body.named_parameters()}
        for path, a, b in zip(self.paths, self.a, self.b, strict=True):
            weight = fixed[f"body.{path}.weight"]
            fixed[f"body.{path}.weight"] = weight + (b @ a).view(weight.shape) / self.rank
        logits: Tensor = functional_call(classifier, fixed, (x,))
        return logits


def _sizes(layer: nn.Module, rank: int) -> tuple[int, int, int]:
    """Rows, columns and rank of the product that is added to a layer's weight."""
    weight = layer.get_parameter("weight")
    height, width = weight.shape[2:] if weight.dim() == 4 else (1, 1)
    rows = weight.shape[0] * height
    columns = math.prod(weight.shape[1:2]) * width
    return rows, columns, rank * height
