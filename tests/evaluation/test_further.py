"""Further threats: exact on grey images, attacked only where open, kept, and added to what is there."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from evaluation_helpers import QUIET, Brightness

from robust_transfer.data import Split
from robust_transfer.errors import ConfigError, ThreatError
from robust_transfer.evaluation import Evaluation, evaluate, load_evaluation
from robust_transfer.statistics.intervals import wilson
from robust_transfer.threat import Threat

VALUES = torch.arange(40, 216, 5)
DISTANCE = (
    (VALUES - 127.5).abs() / 255
).numpy()  # of every value: what it takes in linf, and sqrt(48) times that in l2
WRONG, N = 2, len(VALUES)


@pytest.fixture(scope="module")
def split() -> Split:
    """Grey images; the first two have the wrong label."""
    labels = (VALUES > 127.5).long()
    labels[:WRONG] = 1
    return Split.in_memory(VALUES.byte().view(-1, 1, 1, 1).repeat(1, 3, 4, 4), labels, ("dark", "bright"))


def attacked(split: Split, *also: str, **more: Any) -> Evaluation:
    asked = {"threat": "linf:20/255", "attack": "fgsm", "red_flag_examples": 0, "run": QUIET, "also": also}
    return evaluate(Brightness(), split, **{**asked, **more})


def stands(linf: float) -> np.ndarray[Any, Any]:
    mask = linf < DISTANCE
    mask[:WRONG] = False
    return mask


L2 = math.sqrt(48)


def test_each_threat_is_the_exact_one_and_only_what_is_open_is_attacked(split: Split) -> None:
    found = attacked(split, "l2:1", "linf:10/255", "linf:40/255", "l2:0.3", "linf:15/255")
    expected = {
        "l2:1": (stands(1 / L2), N - WRONG),
        "linf:10/255": (stands(10 / 255), int((~stands(20 / 255)).sum()) - WRONG),
        "linf:40/255": (stands(40 / 255), int(stands(20 / 255).sum())),
        "l2:0.3": (stands(0.3 / L2), int((~stands(1 / L2)).sum()) - WRONG),
        "linf:15/255": (stands(15 / 255), int((stands(10 / 255) & ~stands(20 / 255)).sum())),
    }
    assert [each.threat for each in found.further] == list(expected)
    together = stands(20 / 255)
    for each, (mask, attacks) in zip(found.further, expected.values(), strict=True):
        together = together & mask
        assert each.robust_accuracy == wilson(int(mask.sum()), N), each.threat
        assert each.together == wilson(int(together.sum()), N), each.threat
        assert each.attacked == attacks, each.threat
        fates = found.outcomes[f"broken_by at {each.threat}"]
        assert (fates[:WRONG] == "clean").all()
        assert ((fates == "") == mask).all()
        assert set(fates) == {"clean", "fgsm", ""}
    assert found.passes == attacked(split).passes + sum(each.passes for each in found.further)
    assert all(each.passes > 0 for each in found.further)


def test_they_are_kept_read_shown_and_added(split: Split, tmp_path: Path) -> None:
    run = replace(QUIET, out=tmp_path / "run")
    attacked(split, "l2:1", run=run)
    found = attacked(split, "l2:1", "linf:40/255", run=replace(run, resume=True))
    whole = attacked(split, "l2:1", "linf:40/255")
    assert [replace(each, seconds=0.0) for each in found.further] == [replace(e, seconds=0.0) for e in whole.further]
    loaded = load_evaluation(tmp_path / "run")
    assert loaded.further == found.further
    pd.testing.assert_frame_equal(loaded.outcomes, whole.outcomes, check_dtype=False)
    assert str(loaded) == str(found)
    assert f"also l2:1        {found.further[0].robust_accuracy}" in str(found)
    assert f"within all       {found.further[1].together}" in str(found)
    assert loaded.robust_accuracy == attacked(split).robust_accuracy
    assert "within all" not in str(attacked(split))


def test_a_threat_named_twice_is_measured_once_and_the_evaluated_one_is_refused(split: Split) -> None:
    assert [each.threat for each in attacked(split, "l2:1", "l2:1.0").further] == ["l2:1"]
    assert attacked(split, also=Threat.parse("l2:1")).further[0].threat == "l2:1"
    assert attacked(split, also="l2:1").further[0].threat == "l2:1"
    with pytest.raises(ConfigError, match="is the evaluated threat"):
        attacked(split, "linf:20/255")
    with pytest.raises(ThreatError):
        attacked(split, "l1:1")
    with pytest.raises(ConfigError, match="also"):
        attacked(split, also=3)


def test_what_does_not_fit_in_the_time_is_said(split: Split) -> None:
    found = attacked(split, *(f"l2:{k}e-7" for k in range(1, 4)), time_limit=1e-9)
    assert {f"the threat l2:{k}e-07: for want of time" for k in range(1, 4)} <= set(found.untested)
    assert found.further == []
