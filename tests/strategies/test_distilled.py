"""Distillation's ends: a teacher that is the source with a probe, and students of three kinds."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest
import torch
from helpers import QUIET, make_source, same_state

from robust_transfer.checkpoint import load_checkpoint
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.strategies import ARD, RSLAD, LinearProbe, transfer
from robust_transfer.strategies.distilled import Distilled
from robust_transfer.strategies.teacher import Teacher

KINDS: list[type[Distilled]] = [ARD, RSLAD]
QUICK: dict[str, Any] = {"epochs": 1, "augment": False, "steps": 1, "l2": 0.1}


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_is_the_probe(kind: type[Distilled], task: Task) -> None:
    source = make_source(threat="linf:8/255")
    probe = transfer(source, task, LinearProbe(l2=0.1), run=QUIET)
    start = kind(**QUICK).start(source, task, QUIET)
    assert start.teacher is not None
    assert same_state(start.teacher, probe.classifier)
    assert same_state(start.classifier, source.classifier.with_head(10, seed=0))
    assert start.classifier.body is not source.classifier.body
    assert start.cost.passes == probe.card.cost.passes
    result = transfer(source, task, kind(**QUICK), run=QUIET)
    assert not same_state(result.classifier, probe.classifier)
    assert result.card.metrics["l2"] == 0.1


@pytest.mark.parametrize(("network", "wanted"), [(None, "wrn_16_1"), ("WRN-16-2", "wrn_16_2")])
def test_a_student_from_scratch(network: str | None, wanted: str, task: Task, tmp_path: Any) -> None:
    source, init = make_source(seed=5, threat="linf:8/255"), "scratch"
    strategy = ARD(**{**QUICK, "epochs": 4, "learning_rate": 0.1}, init=init, network=network)  # type: ignore[arg-type]
    start = strategy.start(source, task, QUIET)
    own = source.classifier.state_dict()
    assert not any(
        torch.equal(v, own[k]) for k, v in start.classifier.state_dict().items() if k.endswith("conv1.weight")
    )
    assert start.teacher is not None
    assert start.teacher.spec.name == "wrn_16_1"
    result = transfer(source, task, strategy, run=dataclasses.replace(QUIET, out=tmp_path / "run"))
    assert result.card.network.name == wanted
    assert same_state(load_checkpoint(tmp_path / "run").classifier, result.classifier)
    assert f"begun as a new {wanted}" in result.card.criterion


def test_what_cannot_work_is_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="set init=scratch, too"):
        ARD(network="wrn_16_2")
    with pytest.raises(ConfigError, match="L2 strengths must be positive"):
        RSLAD(l2=-1.0)
    scratch: Literal["scratch"] = "scratch"
    with pytest.raises(NetworkError, match="unknown network 'wrn_61_2'"):
        transfer(make_source(threat="linf:8/255"), task, ARD(network="wrn_61_2", init=scratch), run=QUIET)


def test_a_teacher_answers_in_evaluation_mode_and_learns_nothing(task: Task) -> None:
    x, network = to_pixels(task.train.images()[:8]), make_source().classifier
    wanted, teacher = network.eval()(x).detach(), Teacher(network.copy()).train()
    before = network.copy()
    found = teacher(x)
    torch.testing.assert_close(found, wanted)
    assert not found.requires_grad
    assert same_state(teacher.classifier, before)
    assert not any(p.requires_grad for p in teacher.parameters())
