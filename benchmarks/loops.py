"""Training methods as hand-written loops, from their papers: baselines for ours. Nothing but PyTorch.

All take a classifier on [0, 1], uint8 images ``(n, 3, H, W)`` and labels, and train it in float32 by SGD (momentum 0.9,
Nesterov, weight decay 5e-4, cosine to zero, random crop and flip). ``eps`` is that of an linf ball.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Plan:
    """Length and learning rate; ``epochs`` are passes over the images."""

    epochs: int
    rate: float
    batch: int = 128
    seed: int = 0


def natural(
    model: nn.Module, images: Tensor, labels: Tensor, plan: Plan, frozen: list[nn.Module] | None = None
) -> None:
    """Cross-entropy. ``frozen`` modules stay in evaluation mode and take no gradients."""
    for module in frozen or []:
        module.requires_grad_(False)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        model.train()
        for module in frozen or []:
            module.eval()
        return F.cross_entropy(model(x), y)

    _train(model, images, labels, plan, loss)


def pgd_at(
    model: nn.Module, images: Tensor, labels: Tensor, plan: Plan, *, eps: float, steps: int, step: float
) -> None:
    """Madry et al. 2018: cross-entropy on what PGD makes from a random start, crafted in evaluation mode."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        model.eval()
        start = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        attacked = _climb(x, start, eps, steps, step, lambda z: F.cross_entropy(model(z), y))
        model.train()
        return F.cross_entropy(model(attacked), y)

    _train(model, images, labels, plan, loss)


def trades(
    model: nn.Module, images: Tensor, labels: Tensor, plan: Plan, *, eps: float, steps: int, step: float, beta: float
) -> None:
    """Zhang et al. 2019: cross-entropy on clean images plus beta times the divergence that an attack finds."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        model.eval()
        with torch.no_grad():
            natural = F.softmax(model(x), 1)
        start = (x + 1e-3 * torch.randn_like(x)).clamp(0, 1)
        attacked = _climb(
            x, start, eps, steps, step, lambda z: F.kl_div(F.log_softmax(model(z), 1), natural, reduction="sum")
        )
        model.train()
        clean, moved = model(x), model(attacked)
        return F.cross_entropy(clean, y) + beta * F.kl_div(
            F.log_softmax(moved, 1), F.softmax(clean, 1), reduction="batchmean"
        )

    _train(model, images, labels, plan, loss)


def free(model: nn.Module, images: Tensor, labels: Tensor, plan: Plan, *, eps: float, replays: int) -> None:
    """Shafahi et al. 2019: every minibatch ``replays`` times; one backward pass moves weights and perturbation."""
    optimizer, steps = _optimizer(model, plan), plan.epochs * -(-len(images) // plan.batch)
    delta, number = torch.zeros(plan.batch, *images.shape[1:]), 0
    model.train()
    for x, y in _minibatches(images, labels, plan, plan.epochs // replays):
        for _ in range(replays):
            _set_rate(optimizer, plan, number, steps)
            own = delta[: len(x)].clone().requires_grad_(True)
            optimizer.zero_grad()
            F.cross_entropy(model((x + own).clamp(0, 1)), y).backward()
            assert own.grad is not None
            delta[: len(x)] = (own.detach() + eps * own.grad.sign()).clamp(-eps, eps)
            optimizer.step()
            number += 1


def _train(
    model: nn.Module, images: Tensor, labels: Tensor, plan: Plan, loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    optimizer, steps = _optimizer(model, plan), plan.epochs * -(-len(images) // plan.batch)
    for number, (x, y) in enumerate(_minibatches(images, labels, plan, plan.epochs)):
        _set_rate(optimizer, plan, number, steps)
        value = loss(x, y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def _climb(x: Tensor, current: Tensor, eps: float, steps: int, step: float, loss: Callable[[Tensor], Tensor]) -> Tensor:
    for _ in range(steps):
        current = current.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(current), current)
        current = torch.min(torch.max(current.detach() + step * gradient.sign(), x - eps), x + eps).clamp(0, 1)
    return current


def _optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=plan.rate, momentum=0.9, nesterov=True, weight_decay=5e-4)


def _set_rate(optimizer: torch.optim.Optimizer, plan: Plan, number: int, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = plan.rate * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * number / steps))).item()


def _minibatches(images: Tensor, labels: Tensor, plan: Plan, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled, cropped from a padding of 4 and flipped at random, floats in [0, 1]."""
    torch.manual_seed(plan.seed + 1)
    size = images.shape[-1]
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(plan.batch):
            padded = F.pad(images[chosen].float() / 255, (4, 4, 4, 4))
            tops, lefts = (torch.randint(0, 9, (len(chosen),)).tolist() for _ in range(2))
            x = torch.stack([p[:, i : i + size, j : j + size] for p, i, j in zip(padded, tops, lefts, strict=True)])
            flipped = torch.rand(len(chosen)) < 0.5
            x[flipped] = x[flipped].flip(3)
            yield x.contiguous(memory_format=torch.channels_last), labels[chosen]
