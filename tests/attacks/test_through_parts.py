"""Mixtures whose own gradient hides one of their networks: what plain attacks miss, and the attack through both finds."""

from __future__ import annotations

import pytest
import torch
from attack_helpers import LINF, Batch, first
from helpers import make_classifier
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.attacks import APGD, PGD, Square, ThroughParts
from robust_transfer.attacks.through_parts import LOSSES, _loss
from robust_transfer.classifier import Classifier
from robust_transfer.errors import ConfigError
from robust_transfer.mixed_head import Mixing, mixed
from robust_transfer.mixture import mixture
from robust_transfer.threat import Threat

SMALL = Threat(norm="linf", eps=0.08)
DEAD = Mixing(share=0.6, scale=1e4, power=8.0, shift=-0.5)  # its softmax is 0 or 1 in float32


def labelled(model: Classifier, batch: Batch) -> Batch:
    x, _, ids = first(batch, 64)
    with torch.no_grad():
        return x, model(x).argmax(1), ids


@pytest.fixture(scope="module")
def fragile() -> Classifier:
    return make_classifier(1).eval()


@pytest.fixture(scope="module")
def masked(fragile: Classifier) -> Classifier:
    """A fragile network behind a map whose gradient is 0, beside one that always says the same."""
    constant = make_classifier(2).eval()
    nn.init.zeros_(constant.get_parameter("head.weight"))
    return mixture(fragile, constant, DEAD)


def test_a_masked_mixture_falls(masked: Classifier, fragile: Classifier, batch: Batch) -> None:
    own = labelled(masked, batch)
    x = own[0].clone().requires_grad_(True)
    [gradient] = torch.autograd.grad(losses.log_odds(masked(x), own[1]).sum(), x)
    assert float(gradient.abs().max()) == 0
    assert PGD(steps=20)(fragile, *own, SMALL).broken.sum() > 60  # there is nothing robust in it
    for plain in (PGD(steps=20), PGD(steps=20, loss="margin"), APGD(steps=20), Square(queries=20)):
        assert plain(masked, *own, SMALL).broken.sum() < 10
    found = ThroughParts(steps=20)(masked, *own, SMALL)
    assert found.broken.sum() > 60
    assert (SMALL.size(found.adversarial - own[0]) <= SMALL.eps + 1e-6).all()
    with torch.no_grad():
        assert (masked(found.adversarial).argmax(1) != own[1])[found.broken].all()


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_that_moves_the_robust_network_is_enough(
    name: str, masked: Classifier, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_transfer.attacks.through_parts.LOSSES", {name: LOSSES[name]})
    found = ThroughParts(steps=20)(masked, *labelled(masked, batch), SMALL).broken.sum()
    assert found < 10 if name == "natural" else found > 50


def test_the_losses_by_hand() -> None:
    """Two images of three classes; the second's robust logits are halved."""
    robust, natural = torch.tensor([[1.0, 0.0, -1.0]] * 2), torch.tensor([[0.0, 2.0, 1.0]] * 2)
    aim, rest = torch.tensor([[0.0, 1.0, 1.0], [2.0, 0.5, 1.0]]), torch.tensor(0.2)

    def odds(p: Tensor, own: int) -> float:
        return float(torch.log((1 - p[own]) / p[own]))

    scaled = [(robust[0], natural[0], 0), (0.5 * robust[1], natural[1], 2)]
    wanted = {
        "robust": [odds(h.softmax(0), own) for h, _, own in scaled],
        "natural": [odds(g.softmax(0), own) for _, g, own in scaled],
        "stand-in": [odds(0.8 * h.softmax(0) + 0.2 * g.softmax(0), own) for h, g, own in scaled],
    }
    wanted["sum"] = [a + b for a, b in zip(wanted["robust"], wanted["natural"], strict=True)]
    assert wanted.keys() == LOSSES.keys()
    for name, values in wanted.items():
        assert _loss(name, rest)(torch.cat([robust, natural], 1), aim).tolist() == pytest.approx(values, abs=1e-5)


def test_both_networks_have_a_gradient_in_the_stand_in(masked: Classifier) -> None:
    robust, natural = torch.randn(3, 10, requires_grad=True), torch.randn(3, 10, requires_grad=True)
    odds = LOSSES["stand-in"](robust, natural, torch.zeros(3).long(), torch.tensor(0.4)).sum()
    for gradient in torch.autograd.grad(odds, (robust, natural)):
        assert float(gradient.abs().min()) > 0
    assert mixed(robust, natural, torch.tensor(0.4)).shape == (3, 10)


def test_what_is_no_mixture_is_refused(network: nn.Module, fragile: Classifier, batch: Batch) -> None:
    for model in (network, fragile):
        with torch.no_grad():
            x, _, ids = first(batch, 4)
            labels = model(x).argmax(1)
        with pytest.raises(ConfigError, match="the model is none"):
            ThroughParts()(model, x, labels, ids, LINF)
    with pytest.raises(ConfigError, match="at least 1 step"):
        ThroughParts(steps=0)
