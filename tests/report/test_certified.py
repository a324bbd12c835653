"""The certified curve: the shares of the outcomes, a stair that is never above them, beside attacks of the same norm only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_helpers import Page, evaluation, outcomes

from robust_transfer.certification import Certificate, CertifiedShare
from robust_transfer.drawing.figures import budgets
from robust_transfer.evaluation.curve import CurvePoint
from robust_transfer.report import write_report
from robust_transfer.report.certified import certified
from robust_transfer.statistics.intervals import wilson

NAME = "smoothing:n=200"
RADII = np.array([0.0, 0.1, 0.2, 0.4, 0.4, 0.3] * 10)


def certificate(threat: str) -> Certificate:
    share = wilson(30, 60)
    return Certificate(
        name=NAME, settings={"sigma": 0.25, "n": 200, "n0": 100, "alpha": 0.001}, threat=threat, norm="l2", pixels=192, n=60,
        seed=0, clean_accuracy=share, abstained=wilson(2, 60), own=CertifiedShare(0.25, share),
        curve=[CertifiedShare(0.25, share)], alpha=0.001, passes=18_000, seconds=3.0, figures={"largest_radius": 0.45},
    )  # fmt: skip


def folder(path: Path, threat: str, **more: Any) -> Path:
    table = outcomes(60, smallest=False)
    table[f"class of {NAME}"] = np.where(np.arange(60) < 50, table["label"], -1)
    table[f"radius of {NAME}"] = np.where(np.arange(60) < 50, RADII, 0.0)
    evaluation(table, tuple("abcde"), threat=threat, certificates=[certificate(threat)], **more).save(path)
    return path


def page(path: Path) -> Page:
    return Page.of(write_report([path], path.parent / "r.html", pictures=False))


def short(k: int, n: int = 60) -> str:
    share = wilson(k, n)
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def test_every_point_is_counted_and_the_attack_stands_beside_it(tmp_path: Path) -> None:
    found = page(folder(tmp_path / "run", "l2:0.5", curve=[CurvePoint("l2:0.25", wilson(40, 60))]))
    rows = dict(found.table("at", "accuracy"))
    right = RADII[:50]
    assert rows[f"certified, {NAME}, l2:0"] == short(50)
    assert rows[f"certified, {NAME}, l2:0.3"] == short(int((right >= 0.3).sum()))
    assert rows[f"certified, {NAME}, l2:0.32"] == short(int((right >= 0.32).sum()))
    assert rows[f"certified, {NAME}, l2:0.4"] == short(int((right >= 0.4).sum()))
    assert rows["attacked, the network itself, l2:0.25"] == short(40)
    assert "the two curves are of two classifiers" in found.words()
    assert "each image's radius with confidence 99.9 %, all 60 of them together with at least 94 %" in found.words()
    assert "18,000 image passes" in found.words()
    assert "sqrt" not in found.words()


def test_for_linf_the_attack_is_not_drawn_and_the_conversion_is_said(tmp_path: Path) -> None:
    found = page(folder(tmp_path / "run", "linf:8/255"))
    rows = [row[0] for row in found.table("at", "accuracy")]
    assert not [row for row in rows if row.startswith("attacked")]
    assert "so no attack is drawn: an l2 radius R covers linf eps <= R / sqrt(192) only" in found.words()


def test_between_two_points_a_stair_has_the_share_of_the_larger_radius() -> None:
    """So it is nowhere above what is certified; between two attacks nobody knows, and a line joins them."""
    points = [(0.0, "0", wilson(50, 60)), (0.4, "0.4", wilson(10, 60))]
    drawn = budgets({"proof": points, "attack": points}, unit="l2", stairs={"proof"})
    stair, line = drawn.figure.axes[0].lines
    assert stair.get_drawstyle() == "steps-pre"
    assert line.get_drawstyle() == "default"


def test_a_vacuous_proof_is_told_and_not_drawn(tmp_path: Path) -> None:
    proof = replace(
        certificate("l2:0.5"),
        name="feature-shift",
        settings={"examples": None},
        alpha=0.0,
        vacuous="no image is certified",
    )
    table = outcomes(60, smallest=False)
    for name in (NAME, "feature-shift"):
        table[f"class of {name}"], table[f"radius of {name}"] = table["label"], RADII if name == NAME else 0.0 * RADII
    both = evaluation(table, tuple("abcde"), threat="l2:0.5", certificates=[certificate("l2:0.5"), proof])
    drawn = certified(both, "key")
    assert drawn is not None
    assert not [row for row in drawn.table.rows if "feature-shift" in row[0]]
    assert "No image is certified." in drawn.caption
    assert certified(evaluation(table, tuple("abcde"), threat="l2:0.5", certificates=[proof]), "key") is None


def test_nothing_is_drawn_where_nothing_was_certified() -> None:
    assert certified(evaluation(outcomes(), tuple("abcde")), "key") is None


@pytest.mark.parametrize("sure", [10, 2000])
def test_joint_confidence_is_never_below_nothing(sure: int) -> None:
    made = replace(certificate("l2:0.5"), n=sure)
    assert ("no more than chance" in made.confidence) == (sure == 2000)
