"""Adversarial training on the target: whose objective, from where, at which threat, and counted as such."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from helpers import QUIET, make_source, same_state

from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.cost import Cost
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, UnknownNameError
from robust_transfer.pretraining import PGDAT, PRETRAINING
from robust_transfer.pretraining.free import FreeObjective
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.pretraining.trades import TradesObjective
from robust_transfer.strategies import Adversarial, transfer

QUICK: dict[str, Any] = {"epochs": 1, "augment": False, "batch_size": 64}


@pytest.mark.parametrize(
    ("method", "own", "kind"),
    [
        ("pgd-at", {"steps": 3, "step": 0.5}, AdversarialObjective),
        ("fast", {"step": 1.0}, AdversarialObjective),
        ("trades", {"beta": 2.0, "steps": 3}, TradesObjective),
        ("free", {"replays": 4}, FreeObjective),
    ],
)
def test_the_methods_objective_is_what_is_trained(task: Task, method: Any, own: dict[str, Any], kind: type) -> None:
    source = make_source(threat="linf:8/255")
    strategy = Adversarial(method=method, **own, **QUICK)
    start = strategy.start(source, task, QUIET)
    minimised = strategy.objective(source, start, task, QUIET)
    assert type(minimised.objective) is kind
    for name, value in own.items():
        assert float(getattr(minimised.objective, name)) == value
    assert (minimised.cost, minimised.metrics) == (Cost(), {"trained_for": "linf:8/255"})
    result = transfer(source, task, strategy, run=QUIET)
    assert result.card.cost.adversarial_examples == result.card.data["train"] // 64 * 64
    assert not same_state(result.classifier, start.classifier)


def test_from_scratch_nothing_of_the_source_is_used(task: Task) -> None:
    kept, drawn = (
        Adversarial(init=init).start(make_source(seed=5), task, QUIET).classifier for init in ("source", "scratch")
    )
    state, source = drawn.state_dict(), make_source(seed=5).classifier.state_dict()
    body = [name for name in source if name.startswith("body.") and name.endswith("conv1.weight")]
    assert all(torch.equal(kept.state_dict()[name], source[name]) for name in body)
    assert not any(torch.equal(state[name], source[name]) for name in body)
    torch.manual_seed(0)
    assert same_state(drawn, Classifier.build(drawn.spec)), "what pretraining with this seed begins with"


def test_a_method_of_somebody_elses_is_taken_with_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PRETRAINING, "_entries", dict(PRETRAINING._entries))

    @PRETRAINING.register("near", summary="pgd-at within a radius", paper="none")
    @config
    class Near(PGDAT):
        radius: float = 1.0

    strategy = Adversarial.from_settings({"method": "near", "radius": 3.0, "steps": 2, "epochs": 1})
    assert strategy.made() == Near(radius=3.0, steps=2, **strategy.training())
    assert strategy == Adversarial(method="near", own={"radius": 3.0}, steps=2, epochs=1)
    with pytest.raises(ConfigError, match="radis"):
        Adversarial.from_settings({"method": "near", "radis": 3.0})


def test_a_method_that_crafts_nothing_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'natural' crafts no adversarial examples: use one of cartl, fast, free, pgd-at, trades"
    ):
        Adversarial(method="natural")
    with pytest.raises(UnknownNameError, match="did you mean 'trades'"):
        Adversarial(method="trade")


def test_settings_of_other_methods_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown setting of method 'pgd-at' 'beta'"):
        Adversarial(method="pgd-at", beta=6.0)
    with pytest.raises(ConfigError, match="at least one step"):
        Adversarial(method="trades", steps=0)


def test_a_threat_is_needed_and_is_the_sources_by_default(task: Task) -> None:
    with pytest.raises(ConfigError, match="needs a threat"):
        transfer(make_source(), task, Adversarial(**QUICK), run=QUIET)
    source = make_source(threat="linf:8/255")
    other = transfer(source, task, dataclasses.replace(Adversarial(**QUICK), threat="l2:0.5", steps=1), run=QUIET)
    assert other.card.metrics["trained_for"] == "l2:0.5"
