"""Classifiers small enough for exact bounds, and images away from the ends of [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_transfer.classifier import Classifier
from robust_transfer.data import Split
from robust_transfer.preprocessing import Normalisation, Preprocessing

PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
SIZE = 4


class Residual(nn.Module):
    """A block with all that residual networks have: norms, a shortcut by pooling and padding, two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.more = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        active = F.leaky_relu(self.norm(x), 0.1)
        short = F.pad(F.avg_pool2d(active, 2), (0, 0, 0, 0, 0, self.more))
        inner: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return short + inner


def bodies(seed: int) -> dict[str, nn.Sequential]:
    """Networks of four classes on images of 4 x 4 pixels, with statistics that are not the initial ones."""
    torch.manual_seed(seed)
    made = {
        "linear": nn.Sequential(nn.Flatten(), nn.Linear(48, 4)),
        "mlp": nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 4)),
        "convolutions": nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 4)
        ),
        "overlapping": nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(3, 1), nn.AvgPool2d(2, 1), nn.Flatten(),
            nn.Linear(6, 4),
        ),
        "residual": nn.Sequential(Residual(3, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    }  # fmt: skip
    for module in made.values():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
                nn.init.uniform_(part.weight, -1.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.3)
    return {name: module.eval() for name, module in made.items()}


def classifier(module: nn.Module, normalisation: Normalisation = PLAIN, size: int = SIZE) -> Classifier:
    return Classifier.from_module(module, Preprocessing(size=size, normalisation=normalisation))


def linear(module: nn.Sequential) -> nn.Linear:
    """The first linear layer of a network that is flat."""
    return next(layer for layer in module if isinstance(layer, nn.Linear))


def matrix(layer: nn.Module, *shape: int) -> Tensor:
    """The linear part of a layer, column by column."""
    with torch.no_grad():
        basis = torch.eye(int(torch.tensor(shape).prod()), dtype=torch.float64).view(-1, *shape)
        linear: Tensor = layer.double()(basis) - layer.double()(torch.zeros(1, *shape, dtype=torch.float64))
        return linear.flatten(1).T


def inner_images(n: int, seed: int = 0) -> Tensor:
    """Images ``(n, 3, 4, 4)`` between 0.4 and 0.6: no ball that matters here meets the box."""
    return 0.4 + 0.2 * torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def stored(x: Tensor, labels: Tensor, classes: int) -> Split:
    """A split of images, rounded to 8 bits."""
    return Split.in_memory((255 * x).round().byte(), labels, tuple(f"c{k}" for k in range(classes)))


def labelled(model: nn.Module, x: Tensor, classes: int) -> Split:
    """A split of images, rounded to 8 bits, under the labels that ``model`` gives them."""
    rounded = (255 * x).round() / 255
    with torch.no_grad():
        return stored(rounded, model(rounded).argmax(1), classes)


def hardest(model: nn.Module, x: Tensor, labels: Tensor, eps: Tensor, norm: str, steps: int = 40) -> Tensor:
    """Images within ``eps`` ``(B,)`` that lower the margin as far as plain gradient steps find, ``(B, C, H, W)``."""
    wide, best = eps.view(-1, 1, 1, 1).to(x.dtype), x.clone()
    lowest = torch.full((len(x),), torch.inf, dtype=x.dtype)
    moved = x.clone()
    for step in range(steps):
        moved = moved.detach().requires_grad_(True)
        logits = model(moved)
        own = logits.gather(1, labels[:, None])[:, 0]
        margin = own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        (gradient,) = torch.autograd.grad(margin.sum(), moved)
        better = margin < lowest
        best[better], lowest = moved.detach()[better], torch.minimum(margin.detach(), lowest)
        size = 2.5 / (step + 1) if step else 1.0
        if norm == "linf":
            delta = (moved.detach() - size * wide * gradient.sign() - x).clamp(-wide, wide)
        else:
            length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
            delta = moved.detach() - size * wide * gradient / length - x
            far = delta.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
            delta = delta * (wide / far).clamp_max(1)
        moved = (x + delta).clamp(0, 1)
    return best
