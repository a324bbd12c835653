"""Small networks on digits that planted defences are put into: plain PyTorch, trained within a second each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robust_transfer as rt
from robust_transfer.data import Split, to_pixels

CLASSES, SIDE = 10, 8
Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Digits:
    """Images ``(n, 3, 8, 8)`` in [0, 1] with labels, to train on, and the split to evaluate."""

    x: Tensor
    y: Tensor
    test: Split


def digits(n: int | None = None) -> Digits:
    """The project's digits; of test the first ``n`` (None: all)."""
    task = rt.load_task("builtin:digits")
    test = task.test if n is None else task.test.subset(torch.arange(min(n, len(task.test))))
    return Digits(to_pixels(task.train.images()), task.train.labels, test)


class Net(nn.Module):
    """Two convolutions and a linear head. What stands in ``after`` follows each activation; ``before`` the first layer."""

    def __init__(self, activation: Activation = F.relu, width: int = 16) -> None:
        super().__init__()
        self.before: nn.Module = nn.Identity()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.after = nn.ModuleList([nn.Identity(), nn.Identity()])
        self.activation = activation
        self.head = nn.Linear(2 * width * (SIDE // 2) ** 2, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features ``(B, d)``."""
        z: Tensor = self.after[0](self.activation(self.conv1(self.before(x))))
        z = self.after[1](self.activation(self.conv2(z)))
        return z.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def fit(model: nn.Module, data: Digits, *, seed: int, epochs: int = 8, eps: float = 0.0) -> None:
    """Train what requires a gradient, with ``eps`` on FGSM images as well; deterministic, evaluation mode afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.train()
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(data.x)).split(100):
                x, y = data.x[rows], data.y[rows]
                if eps:
                    x = torch.cat([x, fgsm(model, x, y, eps)])
                    y = y.repeat(2)
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
    model.zero_grad(set_to_none=True)
    model.eval().requires_grad_(False)


def fgsm(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """One signed step from a random start."""
    at = (x + eps * (2 * torch.rand_like(x) - 1)).requires_grad_(True)
    [gradient] = torch.autograd.grad(F.cross_entropy(model(at), y), at)
    moved = at.detach() + 1.25 * eps * gradient.sign()
    return torch.minimum(torch.maximum(moved, x - eps), x + eps).clamp(0, 1)


def trained(data: Digits, *, seed: int, eps: float = 0.0, activation: Activation = F.relu, epochs: int = 8) -> Net:
    """A network after some epochs; naturally, or with ``eps`` on adversarial images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Net(activation)
    fit(net, data, seed=seed, eps=eps, epochs=epochs)
    return net
