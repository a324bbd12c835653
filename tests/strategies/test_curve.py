"""Curves of strategies: which point is kept, what is said of it, how points are named."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import make_source

from robust_transfer.mixed_head import Mixing
from robust_transfer.mixture import mixture
from robust_transfer.strategies import Frontier
from robust_transfer.strategies.curve import Candidate

FIGURES = [("linear-probe", 0.5, 0.30), ("linear-probe", 0.6, 0.20), ("lwf", 0.62, 0.28), ("lwf", 0.70, 0.10)]


def candidates(*more: tuple[str, float, float]) -> list[Candidate]:
    classifier = make_source().classifier
    return [
        Candidate(kind, {"l2": 0.1, "strength": None}, clean, robust, classifier, anchor=kind == "linear-probe")
        for kind, clean, robust in (*FIGURES, *more)
    ]


@pytest.mark.parametrize(
    ("asked", "clean"),
    [
        ({"keep": 0.9}, 0.62),
        ({"keep": 0.95}, 0.5),
        ({"keep": 0.3}, 0.70),
        ({"clean": 0.55}, 0.62),
        ({"clean": 0.65}, 0.70),
        ({"clean": 0.9}, 0.70),
    ],
)
def test_the_point_is_the_one_asked_for(asked: dict[str, Any], clean: float) -> None:
    chosen, criterion = Frontier(**asked).operating_point(candidates())
    assert chosen.clean == clean
    assert f"{next(iter(asked.values())):g}" in criterion


def test_robustness_is_kept_relative_to_the_sources_features() -> None:
    """A trained point that is more robust than every anchor does not raise what has to be kept."""
    chosen, criterion = Frontier(keep=0.9).operating_point(candidates(("lwf", 0.55, 0.36)))
    assert chosen.clean == 0.62  # keeps 0.28 of 0.30, not of 0.36
    assert "best linear-probe's" in criterion


@pytest.mark.parametrize("asked", [{}, {"clean": 0.5}])
def test_the_criterion_names_the_attack_of_mixtures(asked: dict[str, Any]) -> None:
    """Val attacks a mixture through both networks, too, which "PGD-10" alone would hide."""
    plain = candidates()
    part = make_source().classifier.with_head(10, seed=1)
    mix = Candidate("mix", {"share": 0.5}, 0.55, 0.2, mixture(part, part, Mixing(share=0.5)))
    assert "(PGD-10)" in Frontier(**asked).operating_point(plain)[1]
    assert "(PGD-10, mixtures also through both networks)" in Frontier(**asked).operating_point([*plain, mix])[1]
    assert Frontier.attack([*plain, mix]) == "PGD-10, mixtures also through both networks"


def test_points_are_named_by_the_settings_that_they_have() -> None:
    classifier = make_source().classifier
    point = Candidate("lwf", {"l2": 0.1, "strength": 3.0, "share": None}, 0.5, 0.2, classifier)
    assert str(point) == "lwf, l2 = 0.1, strength = 3"
    assert point.series == "lwf, l2 = 0.1"
    assert point.record() == {
        "kind": "lwf", "l2": 0.1, "strength": 3.0, "share": None, "val_clean_accuracy": 0.5, "val_robust_accuracy": 0.2,
    }  # fmt: skip
    assert Candidate("source", {}, 0.5, 0.2, classifier).series == "source"
