"""Robust accuracy against the budget, on a model whose every breaking budget is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from attack_helpers import Batch, Function
from helpers import QUIET
from torch import nn

from robust_transfer.data import Split
from robust_transfer.errors import ConfigError, ThreatError
from robust_transfer.evaluation import evaluate, load_evaluation
from robust_transfer.evaluation.classes import by_class
from robust_transfer.statistics.intervals import wilson

VALUES = torch.arange(40, 216, 5)
DISTANCE = ((VALUES - 127.5).abs() / 255).numpy()  # to the boundary: what it takes to break a grey image
WRONG = 2


def brightness() -> nn.Module:
    return Function(lambda x: torch.stack([0 * x.flatten(1).mean(1), 20 * (x.flatten(1).mean(1) - 0.5)], 1))


@pytest.fixture(scope="module")
def split() -> Split:
    """Grey images; the first two have the wrong label."""
    images = VALUES.byte().view(-1, 1, 1, 1).repeat(1, 3, 4, 4)
    labels = (VALUES > 127.5).long()
    labels[:WRONG] = 1
    return Split.in_memory(images, labels, ("dark", "bright"))


def test_the_curve_is_the_exact_one(split: Split) -> None:
    budgets: list[str | float] = ["20/255", "5/255", 0, "40/255"]
    found = evaluate(
        brightness(), split, threat="linf:10/255", attack="fgsm", curve=budgets, red_flag_examples=0, run=QUIET
    )
    assert found.curve is not None
    assert [level.threat for level in found.curve] == ["linf:0", "linf:5/255", "linf:20/255", "linf:40/255"]
    for level, eps in zip(found.curve, (0, 5, 20, 40), strict=True):
        standing = int((DISTANCE[WRONG:] > eps / 255).sum())
        assert level.robust_accuracy == wilson(standing, len(split))
    assert found.curve[0].robust_accuracy == found.clean_accuracy
    assert "linf:40/255" in str(found)


@pytest.mark.parametrize("own", ["10/255", "20/255", "60/255"])
def test_the_curve_goes_through_the_headline(split: Split, own: str) -> None:
    budgets = ["5/255", "10/255", "20/255", "40/255", "60/255"]
    found = evaluate(
        brightness(), split, threat=f"linf:{own}", attack="fgsm", curve=budgets, red_flag_examples=0, run=QUIET
    )
    plain = evaluate(brightness(), split, threat=f"linf:{own}", attack="fgsm", red_flag_examples=0, run=QUIET)
    assert found.curve is not None
    assert {level.threat: level.robust_accuracy for level in found.curve}[f"linf:{own}"] == found.robust_accuracy
    assert found.passes > plain.passes


def test_what_a_finished_evaluation_lacks_is_added(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    more = dataclasses.replace(run, resume=True)
    asked: dict[str, Any] = {"threat": "linf:20/255", "attack": "fgsm", "red_flag_examples": 0}
    whole = evaluate(
        brightness(), split, **asked, run=QUIET, per_class=True, curve=["5/255", "40/255"], smallest_eps=True
    )
    evaluate(brightness(), split, **asked, run=run)
    found = evaluate(
        brightness(), split, **asked, run=more, per_class=True, curve=["5/255", "40/255"], smallest_eps=True
    )
    assert (found.by_class, found.curve) == (whole.by_class, whole.curve)
    assert found.per_class
    assert found.passes == whole.passes
    pd.testing.assert_frame_equal(load_evaluation(tmp_path / "run").outcomes, whole.outcomes)
    with pytest.raises(ConfigError, match="kept no adversarial images"):
        evaluate(brightness(), split, **asked, run=more, keep_deltas=True)
    monkeypatch.setattr("robust_transfer.evaluation.evaluator.attack_split", None)
    assert evaluate(brightness(), split, **asked, run=more).to_dict() == found.to_dict()


def test_what_does_not_fit_in_the_time_is_said_and_made_later(split: Split, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    asked: dict[str, Any] = {
        "threat": "linf:20/255",
        "attack": "fgsm",
        "red_flag_examples": 0,
        "curve": ["5/255"] * 10**5,
    }
    late = evaluate(brightness(), split, **asked, run=run, time_limit=5.0)
    assert late.untested == ["the curve: for want of time"]
    assert late.robust_accuracy.n == len(split)
    done = evaluate(brightness(), split, **asked, run=dataclasses.replace(run, resume=True))
    assert done.untested == []
    assert done.curve is not None


def test_a_curve_never_rises(network: nn.Module, batch: Batch) -> None:
    x, labels, _ = batch
    split = Split.in_memory((x * 255).byte(), labels, tuple(str(i) for i in range(10)))
    budgets = [str(eps) for eps in np.linspace(0, 0.3, 7)]
    found = evaluate(network, split, threat="linf:0.1", attack="fgsm", curve=budgets, red_flag_examples=0, run=QUIET)
    assert found.curve is not None
    shares = [level.robust_accuracy.value for level in found.curve]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


def test_the_smallest_budget_of_each_image_is_found_to_a_64th(split: Split) -> None:
    threat = 40 / 255
    found = evaluate(
        brightness(), split, threat="linf:40/255", attack="fgsm", smallest_eps=True, red_flag_examples=0, run=QUIET
    ).outcomes["smallest_eps"]
    assert (found[:WRONG] == 0).all()
    stands = threat < DISTANCE
    stands[:WRONG] = False
    assert np.isinf(found[stands]).all()
    broken = ~stands
    broken[:WRONG] = False
    over = found[broken] - DISTANCE[broken]
    assert (over > 0).all()
    assert (over <= threat / 64 + 1e-6).all()


def test_each_class_has_its_own_accuracy(split: Split, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    found = evaluate(
        brightness(), split, threat="linf:20/255", attack="fgsm", red_flag_examples=0, run=run,
        per_class=True, curve=["1/255"], smallest_eps=True,
    )  # fmt: skip
    assert found.by_class is not None
    assert set(found.by_class) == {"dark", "bright"}
    assert found.by_class == by_class(found.outcomes, split.class_names)
    bright = found.by_class["bright"]
    assert bright["clean_accuracy"].n == int((split.labels == 1).sum())
    assert bright["clean_accuracy"].value == 1 - WRONG / bright["clean_accuracy"].n
    assert sum(shares["robust_accuracy"].value * shares["robust_accuracy"].n for shares in found.by_class.values()) == (
        pytest.approx(found.robust_accuracy.value * len(split))
    )
    loaded = load_evaluation(tmp_path / "run")
    assert loaded.to_dict() == found.to_dict()
    assert str(loaded) == str(found)
    assert loaded.outcomes["smallest_eps"].equals(found.outcomes["smallest_eps"])


def test_wrong_budgets_are_refused(split: Split) -> None:
    for budgets, error in (([], ConfigError), (["eight"], ThreatError), (["8"], ThreatError)):
        with pytest.raises(error):
            evaluate(brightness(), split, curve=budgets, red_flag_examples=0, run=QUIET)
