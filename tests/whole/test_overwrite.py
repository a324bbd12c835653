"""--overwrite: the run that is there goes with the first file of the new one, so that no failure before it costs anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import QUIET, make_source

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task
from robust_transfer.demo import run_demo
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.evaluation import evaluate
from robust_transfer.pretraining import Natural
from robust_transfer.run import Run
from robust_transfer.strategies import FineTune, Frontier, LinearProbe, MLPHead


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return make_source(threat="linf:8/255")


@pytest.fixture
def run(tmp_path: Path, source: Checkpoint, task: Task) -> Run:
    """A run that is to overwrite a finished one."""
    LinearProbe(l2=0.1)(source, task, run=dataclasses.replace(QUIET, out=tmp_path / "run"))
    return dataclasses.replace(QUIET, out=tmp_path / "run", overwrite=True)


def fails(*_: Any, **__: Any) -> Any:
    raise ConfigError("found out late")


@pytest.mark.parametrize(
    ("broken", "work"),
    [
        (
            "robust_transfer.strategies.base.trained_on",
            lambda source, task, run: LinearProbe()(source, task, run=run),
        ),
        (
            "robust_transfer.strategies.linear_probe.features_of",
            lambda source, task, run: LinearProbe()(source, task, run=run),
        ),
        (
            "robust_transfer.strategies.linear_probe.features_of",
            lambda source, task, run: Frontier()(source, task, run=run),
        ),
        (
            "robust_transfer.training.objective.NaturalObjective.forward",
            lambda source, task, run: FineTune(epochs=1)(source, task, run=run),
        ),
        (
            "robust_transfer.training.loop.Batches",
            lambda source, task, run: Natural(epochs=1)(task, network="wrn_16_1", run=run),
        ),
        (
            "robust_transfer.strategies.mlp_head.HeadObjective.forward",
            lambda source, task, run: MLPHead(epochs=1)(source, task, run=run),
        ),
        (
            "robust_transfer.evaluation.evaluator.engine_for",
            lambda source, task, run: evaluate(source, task.train, attack="fgsm", run=run),
        ),
        (
            "robust_transfer.attacks.fgsm.FGSM.run",
            lambda source, task, run: evaluate(source, task.train, attack="fgsm", run=run),
        ),
        (
            "robust_transfer.demo.page.measure",
            lambda source, task, run: run_demo(
                source, dataclasses.replace(task, test=task.val), data="x", examples=2, run=run
            ),
        ),
    ],
)
def test_what_fails_before_the_first_write_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
    source: Checkpoint,
    task: Task,
    run: Run,
    broken: str,
    work: Callable[[Checkpoint, Task, Run], object],
) -> None:
    assert run.out is not None
    before = contents(run.out)
    monkeypatch.setattr(broken, fails)
    with pytest.raises(ConfigError, match="found out late"):
        work(source, task, run)
    assert contents(run.out) == before


def test_an_evaluation_in_its_models_folder_stays_until_there_is_another(
    monkeypatch: pytest.MonkeyPatch, source: Checkpoint, task: Task, run: Run
) -> None:
    model = LinearProbe(l2=0.1)(source, task, run=run)
    assert run.out is not None
    some = task.train.subset(torch.arange(8))
    evaluate(model, some, attack="fgsm", run=dataclasses.replace(run, overwrite=False), red_flag_examples=0)
    before = contents(run.out)
    with monkeypatch.context() as patched:
        patched.setattr("robust_transfer.attacks.fgsm.FGSM.run", fails)
        with pytest.raises(ConfigError, match="found out late"):
            evaluate(model, some, attack="fgsm", run=run, red_flag_examples=0)
    assert contents(run.out) == before


def test_batches_of_one_are_refused_before_the_features_are_computed(
    monkeypatch: pytest.MonkeyPatch, source: Checkpoint, task: Task, run: Run
) -> None:
    monkeypatch.setattr("robust_transfer.strategies.mlp_head.features_of", fails)
    with pytest.raises(ConfigError, match="batch_size of at least 2"):
        MLPHead(layer_batch_norm=True, batch_size=1)(source, task, run=run)


def test_what_diverged_is_not_taken_for_a_result(
    monkeypatch: pytest.MonkeyPatch, source: Checkpoint, task: Task, run: Run
) -> None:
    """The old one would be: a script that goes on regardless would evaluate it."""

    def collapsed(*_: Any) -> None:
        raise DivergedError("collapsed")

    monkeypatch.setattr("robust_transfer.production.refuse_collapse", collapsed)
    with pytest.raises(DivergedError):
        LinearProbe(l2=0.1)(source, task, run=run)
    assert run.out is not None
    assert contents(run.out) == {}
