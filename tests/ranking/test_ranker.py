"""The ranking itself: what it predicts, in which order, of which images; and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cli_helpers import DIGITS, Invoke
from helpers import QUIET, make_digits, make_source, make_task, noting, without_val

import robust_transfer as rt
from robust_transfer.attacks.source_features import feature_shift
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.compiling import VARIABLE
from robust_transfer.config import as_dict
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.ranking import Ranking, rank, ranker
from robust_transfer.strategies import feature_shift as module
from robust_transfer.trained_on import trained_on

FIELDS = {"data", "threat", "by", "sources", "unusable", "n_train", "n_val", "seed", "seconds", "notes"}
OF_A_SOURCE = {"name", "clean", "log_loss", "logme", "robust", "shift", "own", "l2", "seconds"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "compiled"))


@pytest.fixture(scope="module")
def sources() -> list[Checkpoint]:
    """A network of digits, and one that sees next to nothing of its images."""
    trained = rt.pretrain(
        make_digits(), rt.Natural(epochs=2, augment=False), network="wrn_16_1", run=replace(QUIET, threads=1)
    )
    blind = make_source()
    with torch.no_grad():
        next(blind.classifier.body.parameters()).mul_(1e-9)
    return [blind, trained]


def test_it_predicts_what_the_probe_has_on_the_samples(task: Task, sources: list[Checkpoint]) -> None:
    found = rank(task, sources=sources, threat="linf:4/255", examples=100, run=QUIET)
    assert (found.n_train, found.n_val, found.threat) == (100, 40, "linf:4/255")
    assert [one.name for one in found.sources] == ["source 2", "source 1"]
    train = task.train.sample(100, seed=0, purpose="rank/train")
    probe = rt.LinearProbe()(sources[1], replace(task, train=train), run=QUIET)
    x, labels, _ = task.val.on("cpu")
    with torch.no_grad():
        logits = probe.classifier(x)
    best = found.best
    assert best.clean.value == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    assert best.log_loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-4)
    assert best.l2 == probe.card.metrics["l2"]
    assert 0 <= best.robust.value <= best.clean.value
    assert best.shift is None
    assert found.sources[1].logme < best.logme


def test_robust_accuracy_falls_with_eps_from_clean(task: Task, sources: list[Checkpoint]) -> None:
    at = [rank(task, sources=sources[1:], threat=f"linf:{eps}", run=QUIET).best for eps in ("0", "0.02", "1")]
    assert at[0].robust == at[0].clean
    assert at[0].robust.value > at[1].robust.value >= at[2].robust.value
    assert len({one.clean for one in at}) == 1


def test_the_order_is_what_is_asked_for(task: Task, sources: list[Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    one = rank(task, sources=sources[1:], run=QUIET).best
    low, high = replace(one.clean, value=0.4), replace(one.clean, value=0.6)
    made = {
        "source 1": replace(one, name="accurate", clean=high, robust=low),
        "source 2": replace(one, name="robust", clean=low, robust=high),
        "source 3": replace(one, name="as robust, with less evidence", clean=low, robust=high, logme=one.logme - 1),
    }
    monkeypatch.setattr(ranker, "_ranked", lambda name, *_: made[name])
    given = [sources[0]] * 3
    by = {by: [each.name for each in rank(task, sources=given, by=by, run=QUIET).sources] for by in ("robust", "clean")}
    assert by["robust"] == ["robust", "as robust, with less evidence", "accurate"]
    assert by["clean"][0] == "accurate"


def test_only_the_sources_own_images_are_attacked(sources: list[Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    digits, calls = make_digits(), list[Any]()
    own = replace(digits, train=digits.train.subset(torch.arange(100, 130)), val=digits.val.subset(torch.arange(0)))
    target = replace(digits, train=digits.train.subset(torch.arange(100)), test=make_task().test)
    source = replace(sources[1], trained_on=trained_on(own))
    monkeypatch.setattr(module, "feature_shift", noting(calls, feature_shift))
    assert rank(target, sources=[source], source_data=[target], run=QUIET).best.shift is None
    assert not calls
    shift = rank(target, sources=[source], source_data=[own], run=QUIET).best.shift
    [(_, x, numbers, _)] = calls
    assert shift is not None
    assert shift.n == 30
    assert set(numbers.tolist()) == set(own.train.ids.tolist())
    assert len(x) == 30
    assert 0 <= shift.robust <= rank(target, sources=[source], run=QUIET).best.clean.value


def test_what_is_refused(task: Task, source: Checkpoint) -> None:
    with pytest.raises(ConfigError, match="val is empty"):
        rank(without_val(task), sources=[source], run=QUIET)
    with pytest.raises(ConfigError, match="by is robust or clean"):
        rank(task, sources=[source], by="both", run=QUIET)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 2"):
        rank(task, sources=[source], examples=1, run=QUIET)


def test_a_source_that_cannot_be_used_is_told(task: Task, source: Checkpoint, tmp_path: Path) -> None:
    found = rank(task, sources=[str(tmp_path / "nowhere"), source], run=QUIET)
    assert len(found.sources) == 1
    assert list(found.unusable) == [str(tmp_path / "nowhere")]
    assert "cannot be used: " in str(found)
    broken = make_source()
    with torch.no_grad():
        broken.classifier.body.get_parameter(next(iter(dict(broken.classifier.body.named_parameters())))).fill_(
            torch.nan
        )
    found = rank(task, sources=[broken, source], run=QUIET)
    assert "not finite" in found.unusable["source 1"]
    with pytest.raises(ConfigError, match="source 1: the source's features are not finite"):
        rank(task, sources=[broken], run=QUIET)


def test_the_cards_own_figures_stand_beside(task: Task) -> None:
    said = make_source(
        metrics={"test_clean_accuracy": {"value": 0.5}, "val_clean_accuracy": 0.4, "val_robust_accuracy": 0.3}
    )
    found = rank(task, sources=[said, make_source(seed=1)], run=QUIET)
    own = {one.name: (one.own.clean, one.own.robust) for one in found.sources}
    assert own == {"source 1": (0.5, 0.3), "source 2": (None, None)}
    assert "unknown" in str(found)


def test_the_command(invoke: Invoke, tmp_path: Path) -> None:
    make_source(threat="linf:8/255").save(tmp_path / "one")
    make_source(seed=1).save(tmp_path / "two")
    words = ("rank", tmp_path / "two", tmp_path / "one", *DIGITS, "--examples", "200", "--quiet")
    status, out, err = invoke(*words)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("first of 2: ")
    assert lines[1].split()[:4] == ["source", "clean", "robust", "by"]
    assert lines[0].endswith("linf:8/255"), "the threat is that of the first source that has one"
    status, out, _ = invoke(*words, "--json")
    record = json.loads(out)
    assert status == 0
    assert set(record) == FIELDS
    assert [set(one) for one in record["sources"]] == [OF_A_SOURCE] * 2
    assert record["sources"][0]["name"] == lines[2].split()[0]
    assert (record["n_train"], record["threat"], record["by"]) == (200, "linf:8/255", "robust")
    status, out, err = invoke("rank", tmp_path / "nowhere", *DIGITS)
    assert (status, out) == (2, "")
    assert "nowhere" in err


def test_the_record_is_read_back(task: Task, source: Checkpoint) -> None:
    from robust_transfer.config import build

    found = rank(task, sources=[source], run=QUIET)
    assert build(Ranking, json.loads(json.dumps(as_dict(found))), "ranking") == found
