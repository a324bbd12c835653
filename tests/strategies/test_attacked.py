"""What the strategies on adversarial examples share: budget, threat, forecast, and eps that grows and is resumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from helpers import QUIET, folder_of, make_source, make_task, same_state

from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining import PRETRAINING
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.pretraining.pgd_at import PGDAT
from robust_transfer.run import Run
from robust_transfer.strategies import STRATEGIES, Adversarial, transfer
from robust_transfer.strategies.attacked import Attacked
from robust_transfer.training import Batch, NaturalObjective, Objective, TrainingSettings

NAMES = [entry.name for entry in STRATEGIES if issubclass(entry.cls, Attacked)]
EXACT = Run(precision="float32", quiet=True, device="cpu")


def made(name: str, **more: Any) -> Attacked:
    strategy = STRATEGIES.get(name).from_settings({**STRATEGIES.get(name).quick, "epochs": 2, "batch_size": 32, **more})
    assert isinstance(strategy, Attacked)
    return strategy


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs teach nobody to tell digits apart."""
    monkeypatch.setattr("robust_transfer.production.refuse_collapse", lambda *_: None)


def test_all_have_one_budget() -> None:
    wanted = Adversarial()
    for name in NAMES:
        strategy = STRATEGIES.get(name)()
        assert isinstance(strategy, Attacked)
        assert strategy.adversarial
        for field in (*TrainingSettings.__dataclass_fields__, "batch_norm", "threat"):
            assert getattr(strategy, field) == getattr(wanted, field), (name, field)
        assert getattr(strategy, "steps", None) in (None, PGDAT().steps)


@pytest.mark.parametrize("name", NAMES)
def test_the_forecast_is_what_is_counted(name: str) -> None:
    """In float32: in another precision val's right answers are looked at twice."""
    task, strategy = make_task(train=100), made(name, steps=3, augment=True)  # 96 images an epoch
    cost = transfer(make_source(threat="linf:8/255"), task, strategy, run=EXACT).card.cost
    assert strategy.passes(task) == cost.passes
    assert cost.adversarial_examples == (3 if name == "roli" else 2) * 96  # its probe has an epoch of its own


@pytest.mark.parametrize("name", NAMES)
def test_a_threat_is_needed_and_is_the_sources_by_default(name: str, task: Task) -> None:
    with pytest.raises(ConfigError, match="needs a threat"):
        transfer(make_source(), task, made(name, threat=None), run=QUIET)
    with pytest.raises(ConfigError, match="nothing is adversarial within linf:0"):
        made(name, threat="linf:0")
    with pytest.raises(ConfigError, match="nothing is adversarial within l2:0"):
        transfer(make_source(threat="l2:0"), task, made(name, threat=None), run=QUIET)
    strategy = made(name, threat=None)
    assert str(strategy.threat_of(make_source(threat="linf:4/255"))) == "linf:4/255"


@pytest.mark.parametrize("name", NAMES)
def test_eps_grows_and_a_killed_run_resumes_to_the_same_bits(
    name: str, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = made(name, eps_start=0.1, eps_hold=0.25, eps_ramp=0.5, epochs=3)
    source, run = make_source(threat="linf:8/255"), dataclasses.replace(QUIET, out=tmp_path / "run")
    whole = transfer(source, task, strategy, run=QUIET)
    flat = transfer(source, task, dataclasses.replace(strategy, eps_start=0, eps_hold=0, eps_ramp=0), run=QUIET)
    assert not same_state(whole.classifier, flat.classifier)
    call, steps = Objective.__call__, list[int]()

    def killed(self: Objective, batch: Batch) -> Any:
        steps.append(batch.step)
        if batch.step == 6 and kill and not frozen(self):
            raise KeyboardInterrupt
        return call(self, batch)

    def frozen(objective: Objective) -> bool:
        return not next(objective.classifier.body.parameters()).requires_grad

    monkeypatch.setattr(Objective, "__call__", killed)
    kill = True
    with pytest.raises(KeyboardInterrupt):
        transfer(source, task, strategy, run=run)
    steps.clear()
    kill = False
    resumed = transfer(source, task, strategy, run=dataclasses.replace(run, resume=True))
    assert steps == list(range(4, 12))  # what was finished is not done again, a probe's training neither
    assert same_state(resumed.classifier, whole.classifier)
    assert resumed.card.cost.passes == whole.card.cost.passes
    assert not (folder_of(run) / "front").exists()


def test_a_schedule_that_an_objective_has_no_place_for_is_refused(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PRETRAINING.get("pgd-at"), "objective", lambda self, model, *_: NaturalObjective(model, 400))
    source = make_source(threat="linf:8/255")
    with pytest.raises(ConfigError, match="NaturalObjective has no schedule of eps"):
        transfer(source, task, made("adversarial", eps_ramp=0.5), run=QUIET)
    assert not isinstance(made("adversarial").scheduled(NaturalObjective(source.classifier)), AdversarialObjective)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "adversarial"])
def test_examples_need_a_step(name: str) -> None:
    for wrong in ({"steps": 0}, {"step": 0.0}):
        with pytest.raises(ConfigError, match="at least one step, of positive length"):
            made(name, **wrong)
