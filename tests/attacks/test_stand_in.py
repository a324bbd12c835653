"""Smooth stand-ins: the same logits, a gradient through what hides it, and breaks that gradients alone do not find."""

from __future__ import annotations

import pytest
import torch
from attack_helpers import LINF, Batch, Function, first
from torch import Tensor, nn

from robust_transfer.attacks import APGD, ThroughStandIn
from robust_transfer.attacks.stand_in import StandIn
from robust_transfer.errors import ConfigError


class Purified(nn.Module):
    """A layer that works on a copy without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return (x * 0.9).clamp(0, 1)


def masked(network: nn.Module) -> dict[str, nn.Module]:
    def band(x: Tensor) -> Tensor:
        return network(torch.where((x - 0.4).abs() < 0.3, torch.full_like(x, 0.4), x))  # type: ignore[no-any-return]

    return {
        "rounded": Function(lambda x: network((x * 8).round() / 8)),
        "floor": Function(lambda x: network((x * 8).floor() / 8)),
        "detached": Function(lambda x: network(x.detach())),
        "no gradient": nn.Sequential(Purified(), network),
        "band": Function(band),
    }


NAMES = ["rounded", "floor", "detached", "no gradient", "band"]


@pytest.mark.parametrize("name", NAMES)
def test_the_logits_are_the_models_own_and_the_gradient_is_not_lost(
    name: str, network: nn.Module, batch: Batch
) -> None:
    model, x = masked(network)[name], first(batch, 8)[0]
    stand_in = StandIn(model)
    logits = stand_in(x.clone().requires_grad_(True))
    assert torch.equal(logits, model(x))
    assert stand_in.replaced > 0
    at = x.clone().requires_grad_(True)
    [gradient] = torch.autograd.grad(stand_in(at)[:, 0].sum(), at)
    assert (gradient.flatten(1).abs().amax(1) > 0).all()


def test_of_a_rounding_the_gradient_is_that_of_the_identity() -> None:
    x = torch.tensor([[0.2, 0.7, 1.4]], requires_grad=True)
    stand_in = StandIn(Function(lambda x: 3 * x.round() + torch.where(x > 1, x, 0 * x) ** 2))
    value = stand_in(x)
    assert value.tolist() == [[0.0, 3.0, pytest.approx(3 + 1.4**2)]]
    [gradient] = torch.autograd.grad(value.sum(), x)
    # where(x > 1, x, 0 x) passes the gradient of both sides; squared, it is twice the value
    assert gradient[0].tolist() == pytest.approx([3.0, 3.0, 3.0 + 2 * 1.4])


@pytest.mark.parametrize("name", ["rounded", "detached", "no gradient"])
def test_what_gradients_do_not_find_is_found(name: str, network: nn.Module, batch: Batch) -> None:
    model, some = masked(network)[name], first(batch, 30)
    plain, through = (attack(model, *some, LINF).broken.sum() for attack in (APGD(steps=10), ThroughStandIn(steps=10)))
    assert through >= plain + 10


def test_a_plain_network_has_nothing_to_replace(network: nn.Module, batch: Batch) -> None:
    assert not StandIn(network).replaces(batch[0][:1])
    assert StandIn(masked(network)["band"]).replaces(batch[0][:1])


def test_code_that_cannot_be_followed_has_nothing_to_replace(batch: Batch) -> None:
    def refuses(x: Tensor) -> Tensor:
        raise RuntimeError("not while you look")

    assert not StandIn(Function(refuses)).replaces(batch[0][:1])


def test_no_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 step"):
        ThroughStandIn(steps=0)
