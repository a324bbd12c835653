"""FGSM and PGD: closed forms, an independent reference, and changes that must never help the model."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from attack_helpers import L2, LINF, SLACK, Batch, Function, Scaled, constant, first, separated
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.attacks import FGSM, PGD, Attack, Victim
from robust_transfer.losses import margin
from robust_transfer.threat import Threat

# ---------------------------------------------------------------- closed forms


EXACT: dict[str, list[Attack]] = {
    "linf": [FGSM(), PGD(steps=12), PGD(steps=12, loss="margin"), PGD(steps=4, random_start=False)],
    "l2": [FGSM(), PGD(steps=4, random_start=False), PGD(steps=40, loss="dlr"), PGD(steps=40)],
}


@pytest.mark.parametrize("pair", [(0, 1), (1, 0), (2, 3), (3, 1)])
@pytest.mark.parametrize(("norm", "number"), [(norm, i) for norm, some in EXACT.items() for i in range(len(some))])
def test_on_a_linear_model_the_exact_margin_decides(norm: str, number: int, pair: tuple[int, int]) -> None:
    attack, threat = EXACT[norm][number], Threat(norm=norm, eps=0.03 if norm == "linf" else 0.1)
    shares = torch.tensor([0.3, 0.6, 0.9, 0.97, 1.03, 1.1, 1.5])
    model, (x, labels, ids) = separated(norm, pair, shares, threat.eps)
    assert x.min() > threat.eps  # the box does not interfere
    assert x.max() < 1 - threat.eps
    result = attack(model, x, labels, ids, threat)
    assert result.broken.tolist() == (shares < 1).tolist()
    assert result.prediction.tolist() == torch.where(shares < 1, pair[1], pair[0]).tolist()


@pytest.mark.parametrize(("steps", "broken"), [(3, False), (4, True)])
def test_the_last_iterate_is_scored(steps: int, broken: bool) -> None:
    threat = Threat(norm="linf", eps=0.03)
    model, (x, labels, ids) = separated("linf", (0, 1), torch.tensor([0.9]), threat.eps)
    result = PGD(steps=steps, random_start=False)(model, x, labels, ids, threat)
    assert result.broken.tolist() == [broken]


def test_the_start_is_scored() -> None:
    x, labels, ids = constant(8)

    def trap(x: Tensor) -> Tensor:
        """Wrong only near the clean image; the gradient leads away from there."""
        mean = x.flatten(1).mean(1)
        off = (mean - 0.5).abs()
        value = torch.where((off > 0) & (off < 0.05), 1.0, -1.0)
        value = value.detach() + 100 * (mean - mean.detach())
        return torch.stack([-value, value], 1)

    result = PGD(steps=5)(Function(trap), x, labels, ids, LINF)
    assert result.broken.all()


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_one_full_pgd_step_is_fgsm(network: nn.Module, batch: Batch, threat: Threat, loss: str) -> None:
    fgsm = FGSM(loss=loss)(network, *batch, threat)
    pgd = PGD(steps=1, step=1.0, random_start=False, loss=loss)(network, *batch, threat)
    assert torch.equal(fgsm.adversarial, pgd.adversarial)
    assert torch.equal(fgsm.broken, pgd.broken)
    assert fgsm.broken.any()
    assert not fgsm.broken.all()


def plain_margin(logits: Tensor, labels: Tensor) -> Tensor:
    others = logits.clone()
    others[torch.arange(len(labels)), labels] = -torch.inf
    return others.amax(1).sum() - logits[torch.arange(len(labels)), labels].sum()


# Lengths of five steps from 0.5 eps on, as half a wave: 0.5 * (1 + cos(pi * k / 5)) / 2 by hand.
WAVE = [0.5, 0.452254, 0.327254, 0.172746, 0.047746]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("then", [None, "margin"])
@pytest.mark.parametrize("lengths", [[0.25] * 10, WAVE], ids=["constant", "cosine"])
def test_pgd_takes_the_steps_of_ten_lines_of_plain_pytorch(
    network: nn.Module,
    batch: Batch,
    norm: str,
    then: str | None,
    lengths: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threat, seed, steps = (LINF if norm == "linf" else L2), 3, len(lengths)
    clean, labels, ids = first(batch, 96)
    iterates: list[Tensor] = []

    def never(self: Victim, x: Tensor, labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        iterates.append(x.clone())
        return torch.zeros(len(x), dtype=torch.bool), margin(logits, labels)

    monkeypatch.setattr(Victim, "judge", never)
    right = network(clean).argmax(1) == labels
    clean, labels, ids = clean[right], labels[right], ids[right]
    schedule: Literal["constant", "cosine"] = "cosine" if lengths is WAVE else "constant"
    attack = PGD(steps=steps, step=lengths[0], then=then, schedule=schedule)
    attack(network, clean, labels, ids, threat, seed=seed)
    assert len(iterates) == steps + 1
    assert ((iterates[0] - clean).flatten(1).abs().amax(1) > 0.01).all()

    x = iterates[0]
    for number, found in enumerate(iterates[1:]):
        x, size = x.detach().requires_grad_(True), lengths[number] * threat.eps
        second = then is not None and number >= steps / 2  # of five steps the last two
        loss = plain_margin(network(x), labels) if second else F.cross_entropy(network(x), labels, reduction="sum")
        loss.backward()
        assert x.grad is not None
        if norm == "linf":
            delta = (x + size * x.grad.sign() - clean).clamp(-threat.eps, threat.eps)
        else:
            delta = x + size * x.grad / x.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1) - clean
            delta = delta * (threat.eps / delta.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1, 1)
        x = (clean + delta).clamp(0, 1).detach()
        assert torch.allclose(found, x, atol=1e-4 if norm == "l2" else SLACK)
    network.zero_grad(set_to_none=True)


# ---------------------------------------------------------------- what can never help the model


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_more_steps_and_more_restarts_never_help_the_model(
    network: nn.Module, batch: Batch, threat: Threat, seed: int
) -> None:
    settings = [{"steps": 2}, {"steps": 5}, {"steps": 10}, {"steps": 10, "restarts": 2}, {"steps": 10, "restarts": 4}]
    results = [PGD(**some)(network, *batch, threat, seed=seed) for some in settings]  # type: ignore[arg-type]
    for weaker, stronger in pairwise(results):
        assert not (weaker.broken & ~stronger.broken).any()
        stands = ~stronger.broken
        assert (stronger.margin[stands] >= weaker.margin[stands]).all()
    assert int(results[0].broken.sum()) < int(results[-1].broken.sum())
    assert (results[-1].margin > results[-2].margin)[~results[-1].broken].any()


@pytest.mark.parametrize("loss", ["margin", "dlr"])
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**10])
def test_the_scale_of_the_logits_changes_no_bit(network: nn.Module, batch: Batch, loss: str, scale: float) -> None:
    attack = PGD(steps=5, loss=loss)
    plain, scaled = attack(network, *batch, LINF), attack(Scaled(network, scale), *batch, LINF)
    assert torch.equal(plain.adversarial, scaled.adversarial)
    assert torch.equal(plain.broken, scaled.broken)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_logits_does_not_hide_the_gradient(
    network: nn.Module, batch: Batch, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = PGD(steps=10)
    plain, scaled = (int(attack(model, *batch, LINF).broken.sum()) for model in (network, Scaled(network, scale)))
    assert abs(scaled - plain) <= 0.04 * 256
    monkeypatch.setitem(losses.LOSSES, "ce", losses.cross_entropy)
    naive = int(attack(Scaled(network, scale), *batch, LINF).broken.sum())
    assert naive < scaled - (0.2 if scale > 1 else 0.02) * 256  # what cross-entropy itself would have found


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_the_scale_of_the_loss_changes_no_bit(
    network: nn.Module, batch: Batch, threat: Threat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scaled(factor: float, z: Tensor, y: Tensor) -> Tensor:
        return factor * losses.log_odds(z, y)

    found = PGD(steps=5)(network, *batch, threat)
    for factor in (2.0**-60, 2.0**20):
        monkeypatch.setitem(losses.LOSSES, "ce", partial(scaled, factor))
        assert torch.equal(PGD(steps=5)(network, *batch, threat).adversarial, found.adversarial)
