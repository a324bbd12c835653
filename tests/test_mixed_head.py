"""Mixed heads: the mixing step by step, its ends, and what it keeps in the tails."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from robust_transfer.errors import ConfigError
from robust_transfer.heads import HeadSpec, fresh_head
from robust_transfer.mixed_head import MixedHead, Mixing, mixed, raised

Z = torch.randn(20, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SHARES = (0.5, 0.6, 0.75, 0.9, 0.99, 0.999, 1.0)


def head(how: Mixing, classes: int = 7) -> MixedHead:
    made = fresh_head(12, classes, HeadSpec(parts=(5, 7)), torch.Generator().manual_seed(1))
    assert isinstance(made, MixedHead)
    return made.double().set(how)


def by_hand(h: list[float], g: list[float], how: Mixing) -> list[float]:
    """Probabilities of one image, in plain Python."""
    k = len(h)
    centre = sum(h) / k
    deviation = math.sqrt(sum((v - centre) ** 2 for v in h) / k + 1e-5)
    u = [(v - centre) / deviation + how.shift for v in h]
    u = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in u]
    m = [how.scale * math.copysign(abs(v) ** how.power, v) for v in u]

    def softmax(logits: list[float]) -> list[float]:
        powers = [math.exp(v - max(logits)) for v in logits]
        return [p / sum(powers) for p in powers]

    return [(1 - how.share) * a + how.share * b for a, b in zip(softmax(g), softmax(m), strict=True)]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("scale", "power", "shift"), [(1.0, 1.0, 0.0), (5.0, 4.0, -1.1), (0.6, 2.5, -0.3)])
def test_the_mixing_is_that_of_the_paper(share: float, scale: float, power: float, shift: float) -> None:
    how = Mixing(share=share, scale=scale, power=power, shift=shift)
    made = head(how)
    robust = Z[:, :5] @ made.first.weight.T + made.first.bias
    natural = Z[:, 5:] @ made.second.weight.T + made.second.bias
    found = made(Z).exp()
    wanted = torch.tensor(
        [by_hand(h, g, how) for h, g in zip(robust.tolist(), natural.tolist(), strict=True)], dtype=torch.float64
    )
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.sum(1), torch.ones(20, dtype=torch.float64))


def test_the_gradient_is_that_of_finite_differences() -> None:
    made = head(Mixing(share=0.8, scale=3.0, power=2.0, shift=-0.5))
    assert torch.autograd.gradcheck(made, (Z[:4].clone().requires_grad_(True),))


def test_with_the_whole_share_the_robust_network_decides() -> None:
    made = head(Mixing(share=1.0, shift=10.0))  # far above 0 GELU is the identity
    robust, _ = made.both(Z)
    assert torch.equal(made(Z).argmax(1), robust.argmax(1))
    torch.testing.assert_close(made(Z), (robust - robust.mean(1, keepdim=True)).div(
        (robust.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    ).log_softmax(1))  # fmt: skip
    z = Z.clone().requires_grad_(True)
    [gradient] = torch.autograd.grad(made(z)[:, 0].sum(), z)
    assert bool(gradient.isfinite().all())
    assert float(gradient[:, :5].abs().min()) > 0
    assert float(gradient[:, 5:].abs().max()) == 0


def test_tails_are_exact_where_probabilities_underflow() -> None:
    """Of classes at -200 and -300 in both networks no probability is left in float32; their logarithms are."""
    logits = torch.tensor([[0.0, -200.0, -300.0]], requires_grad=True)
    found = mixed(logits, logits, torch.tensor(0.3))
    assert found.tolist()[0] == pytest.approx([0.0, -200.0, -300.0], abs=1e-4)
    [gradient] = torch.autograd.grad(found[0, 2] - found[0, 0], logits)
    assert gradient.tolist()[0] == pytest.approx([-1.0, 0.0, 1.0], abs=1e-6)


def test_where_the_map_is_flat_nothing_is_no_number() -> None:
    flat = torch.zeros(2, 4, requires_grad=True)
    for power in (1.0, 1.5, 4.0):
        found: Tensor = raised(flat, torch.tensor(power), torch.tensor(0.0))
        [gradient] = torch.autograd.grad(found.sum(), flat)
        assert bool(gradient.isfinite().all())


def test_the_numbers_are_state_and_stay_apart_in_half_precision() -> None:
    state = head(Mixing(share=0.9998, scale=2.0, power=3.0, shift=-1.0)).float().state_dict()
    assert {"rest", "scale", "power", "shift"} < state.keys()
    assert 1 - float(state["rest"].half()) == pytest.approx(0.9998, abs=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"share": 0.4}, {"share": 1.1}, {"share": 0.6, "scale": 0.0}, {"share": 0.6, "power": 0.5}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Mixing(**wrong)


def test_heads_for_other_features_are_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(ConfigError, match="12 features, the networks have 13"):
        fresh_head(13, 7, HeadSpec(parts=(5, 7)), generator)
    for wrong in ({"parts": (0, 3)}, {"parts": (5, 7), "hidden": (4,)}):
        with pytest.raises(ConfigError, match="two linear heads"):
            HeadSpec(**wrong)
