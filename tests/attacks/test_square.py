"""Square: its queries, its search area, and breaks where there are no gradients."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from attack_helpers import LINF, Batch, Function, constant, first
from torch import Tensor, nn

from robust_transfer.attacks import PGD, Square, Victim
from robust_transfer.attacks.square import _pyramid, _two_pyramids
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat


def queries_of(threat: Threat, monkeypatch: pytest.MonkeyPatch, queries: int = 60, size: int = 16) -> list[Tensor]:
    """The perturbations that are tried, one tensor a query, when the margin always rises a little."""
    seen: list[Tensor] = []

    def rising(self: Victim, x: Tensor, labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(x - 0.5)
        return torch.zeros(len(x), dtype=torch.bool), torch.full((len(x),), float(len(seen)))

    monkeypatch.setattr(Victim, "judge", rising)
    x = torch.full((5, 3, size, size), 0.5)
    model = Function(lambda x: torch.tensor([1.0, 0.0]).repeat(len(x), 1))
    Square(queries=queries)(model, x, torch.zeros(5).long(), torch.arange(5), threat)
    assert len(seen) == queries
    return seen


def test_linf_begins_with_stripes_and_changes_one_square_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    eps, queries = 0.1, 60
    deltas = queries_of(Threat(norm="linf", eps=eps), monkeypatch, queries)
    assert torch.allclose(deltas[0].abs(), torch.tensor(eps))
    assert torch.equal(deltas[0], deltas[0][:, :, :1].expand_as(deltas[0]))  # constant along each column
    sides = []
    for before, after in pairwise(deltas):
        assert torch.allclose(after.abs(), torch.tensor(eps), atol=1e-6)
        changed = ((after - before).abs() > 1e-6).any(1)
        for mask in changed:
            if mask.any():
                rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
                sides.append(int(max(rows.max() - rows.min(), columns.max() - columns.min())) + 1)
    assert max(sides[:10]) > 2 * max(sides[-10:])  # the squares get smaller


def test_l2_uses_all_of_the_budget_and_moves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    deltas = queries_of(Threat(norm="l2", eps=0.8), monkeypatch)
    for delta in deltas:
        torch.testing.assert_close(delta.flatten(1).norm(dim=1), torch.full((5,), 0.8), rtol=1e-4, atol=0)
    moved = [int(((b - a).abs() > 1e-6).any(1).sum()) for a, b in pairwise(deltas[1:])]
    assert all(moved)
    assert max(moved[-10:]) < max(moved[:10])


def test_pyramids_by_hand() -> None:
    """Side 5 of equation 1: rings of 1/9, 1/9 + 1/4 and 1/9 + 1/4 + 1."""
    expected = torch.full((5, 5), 1 / 9)
    expected[1:4, 1:4] += 1 / 4
    expected[2, 2] += 1
    torch.testing.assert_close(_pyramid(5, 5, torch.device("cpu")), expected)
    pattern = _two_pyramids(5, torch.device("cpu"))
    assert float(pattern.norm()) == pytest.approx(1)
    assert (pattern[:, :2] > 0).all()
    assert (pattern[:, 2:] < 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_network_without_useful_gradients_is_broken(network: nn.Module, batch: Batch, norm: str) -> None:
    """Rounded inputs hide the gradient from every gradient attack, not from this one."""
    threat = LINF if norm == "linf" else Threat(norm="l2", eps=2.0)
    hidden = Function(lambda x: network((x * 16).round() / 16))
    some = first(batch, 64)
    by_gradient, by_score = (a(hidden, *some, threat).broken.sum() for a in (PGD(steps=10), Square(queries=300)))
    assert by_score > by_gradient + 15


def test_one_query_costs_one_pass(batch: Batch) -> None:
    x, labels, ids = constant(7)
    firm = Function(lambda x: torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(x), 1))
    assert Square(queries=9)(firm, x, labels, ids, LINF).passes == 7 * (9 + 2)  # the clean and the final scores


def test_more_queries_break_more(network: nn.Module, batch: Batch) -> None:
    few, many = (int(Square(queries=n)(network, *first(batch, 64), LINF).broken.sum()) for n in (20, 500))
    assert few < many


@pytest.mark.parametrize("size", [(3, 4, 4), (3, 9, 5), (1, 32, 32)])
def test_images_of_any_shape(size: tuple[int, ...]) -> None:
    model = Function(lambda x: torch.stack([x.flatten(1).mean(1) - 0.45, 0 * x.flatten(1).sum(1)], 1))
    x = torch.full((4, *size), 0.5)
    for threat in (Threat(norm="linf", eps=0.2), Threat(norm="l2", eps=20.0)):
        assert Square(queries=300)(model, x, torch.zeros(4).long(), torch.arange(4), threat).broken.all()


@pytest.mark.parametrize("wrong", [{"queries": 0}, {"restarts": 0}, {"area": 0.0}, {"area": 1.5}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Square(**wrong)  # type: ignore[arg-type]
