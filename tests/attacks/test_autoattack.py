"""The reference implementation as an attack: any number of classes, a seed, a cost, and how ours compares."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pyautoattack
import pytest
import torch
from attack_helpers import L2, LINF, Batch, Function, first
from torch import nn

from robust_transfer.attacks import PyAutoAttack, parse_attack
from robust_transfer.attacks import autoattack as module
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat


class Hasty(pyautoattack.AutoAttack):  # type: ignore[misc]
    """A few steps of everything."""

    made: ClassVar[list[Hasty]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.square.n_queries = 10
        Hasty.made.append(self)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> list[Hasty]:
    monkeypatch.setattr(module, "_library", lambda: SimpleNamespace(AutoAttack=Hasty))
    Hasty.made.clear()
    return Hasty.made


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_any_number_of_classes_from_two_up(classes: int, network: nn.Module, batch: Batch, hasty: list[Hasty]) -> None:
    fewer = Function(lambda x: network(x)[:, :classes])
    x, _, ids = first(batch, 12)
    labels = fewer(x).argmax(1)
    result = PyAutoAttack(steps=4)(fewer, x, labels, ids, LINF)
    assert result.broken.any()
    assert (LINF.size(result.adversarial - x) <= LINF.eps + 1e-6).all()
    [made] = hasty
    assert ("apgd-t" in made.attacks_to_run) == (classes > 3)
    assert made.apgd_targeted.n_target_classes == min(9, classes - 1)


def test_one_of_its_attacks_alone_and_the_random_version(network: nn.Module, batch: Batch, hasty: list[Hasty]) -> None:
    some = first(batch, 6)
    PyAutoAttack(only="fab-t", steps=3, restarts=2)(network, *some, LINF)
    PyAutoAttack(steps=2, eot=3)(network, *some, LINF)
    fab, random = hasty
    assert (fab.attacks_to_run, fab.fab.n_iter, fab.fab.n_restarts) == (["fab-t"], 3, 1)  # it has no restarts of fab-t
    assert (random.attacks_to_run, random.apgd.eot_iter) == (["apgd-ce", "apgd-dlr"], 3)
    with pytest.raises(ConfigError, match="did you mean 'fab-t'"):
        PyAutoAttack(only="fab_t")
    with pytest.raises(ConfigError, match="at least 1 step and 1 restart"):
        PyAutoAttack(restarts=0)


def test_what_it_is_estimated_to_cost() -> None:
    """Of the standard version: 1,000 gradients, 900 steps of FAB at two passes and a half, and Square's queries."""
    assert PyAutoAttack().passes == pytest.approx(3 + 0.4 * (2 * 1000 + 2.5 * 900 + 5000))
    assert PyAutoAttack(only="square").passes == pytest.approx(3 + 0.4 * 5000)
    assert PyAutoAttack(only="fab-t", steps=10).passes == pytest.approx(3 + 0.4 * 2.5 * 90)
    assert PyAutoAttack(eot=20).passes == pytest.approx(3 + 0.4 * 2 * 200 * 20)
    assert [PyAutoAttack(only=only).most_steps for only in (None, "apgd-t", "square")] == [1900, 900, 0]


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_it_is_seeded_counted_and_leaves_the_stream_alone(
    threat: Threat, network: nn.Module, batch: Batch, hasty: list[Hasty]
) -> None:
    some = first(batch, 12)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (PyAutoAttack(steps=4)(network, *some, threat, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.adversarial, same.adversarial)
    assert not torch.equal(one.adversarial, other.adversarial)
    assert one.passes > 12 * (4 * 2 + 10)
    assert len(hasty) == 3


def test_without_the_library_there_is_a_sentence(
    network: nn.Module, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyautoattack", None)
    with pytest.raises(ConfigError, match="pip install 'robust-transfer\\[autoattack\\]'"):
        PyAutoAttack()(network, *first(batch, 2), LINF)


@pytest.mark.slow
@pytest.mark.parametrize("threat", [Threat(norm="linf", eps=0.12), L2], ids=str)
def test_strong_leaves_no_more_than_the_reference(network: nn.Module, batch: Batch, threat: Threat) -> None:
    """But for what another seed of the reference finds."""
    some = first(batch, 200)
    strong, standing = [attack for attack in parse_attack("strong") if not attack.needs_source], some
    for attack in strong:
        left = ~attack(network, *standing, threat).broken
        standing = standing[0][left], standing[1][left], standing[2][left]
    ours = len(standing[0])
    reference = [int((~PyAutoAttack()(network, *some, threat, seed=seed).broken).sum()) for seed in range(3)]
    assert ours <= max(reference) + 1
    assert ours > 10
