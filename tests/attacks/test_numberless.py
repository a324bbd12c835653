"""A gradient or a logit that is not a number makes no example robust, whatever the attack."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from attack_helpers import LINF, Batch, first, small_network
from helpers import make_classifier
from torch import Tensor, nn

from robust_transfer.attacks import ATTACKS, PGD, AttackResult, Knowledge
from robust_transfer.engine import Engine
from robust_transfer.mixed_head import Mixing
from robust_transfer.mixture import mixture
from robust_transfer.threat import Threat

N = 16
SMALL = Threat(norm="linf", eps=0.01)


class Numberless(torch.autograd.Function):
    """The identity, whose gradient is NaN for images with a dark corner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient.masked_fill(dark(x).view(-1, 1, 1, 1), torch.nan)


def dark(x: Tensor) -> Tensor:
    return x[:, 0, 0, 0] < 0.5


def numberless(module: nn.Module) -> None:
    """Let the gradient of what enters a network be no number."""
    module.register_forward_pre_hook(lambda _, given: (Numberless.apply(given[0]), *given[1:]))


@pytest.fixture
def images(batch: Batch) -> Tensor:
    x = first(batch, N)[0].clone()
    x[:, 0, 0, 0] = (torch.arange(N) % 2).float()
    return x


def attacked(name: str, x: Tensor, *, odd: bool, engine: Engine | None = None) -> AttackResult:
    """Result of an attack on a fresh network of the kind that it needs, right on every image."""
    cls = ATTACKS.get(name)
    known: Knowledge | None = None
    with torch.random.fork_rng(devices=[]):
        if cls.needs_parts:
            how = Mixing(share=0.7, scale=5.0, power=2.0, shift=-0.5)
            model: nn.Module = mixture(make_classifier(seed=1).eval(), make_classifier(seed=2).eval(), how)
            inputs: list[nn.Module] = [model.body]  # type: ignore[list-item]
        elif cls.needs_source:
            source, own = make_classifier(seed=1).eval(), make_classifier(seed=1).with_head(10, seed=2).eval()
            known, model, inputs = Knowledge(source, x, source(x).argmax(1)), own, [own.body, source.body]
        else:
            torch.manual_seed(0)
            net = small_network().eval()
            model, inputs = net, [net]
    labels = model(x).argmax(1)
    if odd:
        for module in inputs:
            numberless(module)
    effort: dict[str, Any] = {cls.count: 5} if cls.count else {"steps": 3} if name == "pyautoattack" else {}
    return cls(**effort)(model, x, labels, torch.arange(N), SMALL, knowledge=known, engine=engine)


@pytest.mark.parametrize("name", ATTACKS.names())
def test_without_a_gradient_no_example_stands(name: str, images: Tensor) -> None:
    """Contract of the registry: where the gradient is NaN an example counts as broken, and the others are as they were."""
    if name == "pyautoattack" and importlib.util.find_spec("pyautoattack") is None:
        pytest.skip("the extra is not installed")
    plain, result = (attacked(name, images, odd=odd) for odd in (False, True))
    misled = dark(images)
    assert bool((~plain.broken[misled]).any()), "or nothing is shown"
    if ATTACKS.get(name).gradient_free:
        assert torch.equal(result.broken, plain.broken)
        assert result.unattacked == 0
        return
    assert result.broken[misled].all()
    assert result.unattacked == int((result.broken & (result.prediction == result.clean_prediction)).sum()) > 0
    if ATTACKS.get(name).batch_free:
        assert torch.equal(result.broken[~misled], plain.broken[~misled])


@pytest.mark.parametrize("name", ATTACKS.names())
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_never_right(name: str, value: float, images: Tensor) -> None:
    model = small_network().eval()
    labels, known = model(images).argmax(1), None
    model.register_forward_hook(lambda _, __, out: torch.full_like(out, value))
    cls = ATTACKS.get(name)
    effort: dict[str, Any] = {cls.count: 2} if cls.count else {}
    result = cls(**effort)(model, images, labels, torch.arange(N), LINF, knowledge=known)
    assert result.broken.all()
    assert (result.clean_prediction == -1).all()


class Halved(nn.Module):
    """A network whose gradient is NaN in bfloat16 and right in float32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = small_network().eval()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(Numberless.apply(x) if torch.is_autocast_enabled("cpu") else x)
        return found


def test_what_bfloat16_cannot_climb_is_climbed_in_float32(images: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        model = Halved().eval()
    labels = model(images).argmax(1)
    threat = Threat(norm="linf", eps=0.1)
    exact, low = (
        PGD(steps=5)(model, images, labels, torch.arange(N), threat, engine=Engine(dtype))
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert exact.broken[dark(images)].any()
    assert torch.equal(low.broken[dark(images)], exact.broken[dark(images)])
    assert low.unattacked == 0
