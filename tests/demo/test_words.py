"""The demo says an ordering only where intervals do not overlap, in groups and row by row."""

from __future__ import annotations

from typing import Any

import pytest

from robust_transfer.demo.words import all_apart, apart, headline, of_group, sentences
from robust_transfer.statistics.intervals import wilson

N = 200


def row(group: str, name: str, clean: int, robust: int, *, cost: float = 100.0, examples: int = 0) -> dict[str, Any]:
    """A row of which ``clean`` and ``robust`` of 200 images are right, with Wilson's intervals."""
    shares = {
        level: {"value": p.value, "low": p.low, "high": p.high, "n": p.n}
        for level, p in (("clean", wilson(clean, N)), ("robust", wilson(robust, N)))
    }
    return {"group": group, "name": name, **shares, "seconds": 1.0, "cost": cost, "adversarial_examples": examples}


SOURCE = [row("source", "linear-probe", 180, 120), row("source", "lwf", 184, 124, cost=900.0)]
CONTROL = [row("control", "linear-probe", 178, 0), row("control", "lwf", 150, 4)]


def test_intervals_that_touch_do_not_set_rows_apart() -> None:
    a, b = row("source", "a", 0, 100), row("source", "b", 0, 100)
    b["robust"] = {**b["robust"], "low": a["robust"]["high"]}
    assert (apart(a, b, "robust"), apart(b, a, "robust")) == (0, 0)
    b["robust"]["low"] += 1e-9
    assert (apart(a, b, "robust"), apart(b, a, "robust")) == (-1, 1)


def test_groups_are_apart_where_every_pair_is() -> None:
    assert all_apart(SOURCE, CONTROL, "robust") == 1
    assert all_apart(CONTROL, SOURCE, "robust") == -1
    assert all_apart(SOURCE, CONTROL, "clean") == 0  # the probes are alike
    assert all_apart(SOURCE, SOURCE, "robust") == 0
    assert all_apart([], CONTROL, "robust") == 0
    assert of_group([*SOURCE, *CONTROL], "control") == CONTROL


def test_the_headline_is_the_difference_where_it_is_clear() -> None:
    assert headline([*SOURCE, *CONTROL], "the robust source") == (
        "Under attack, 60.0 to 62.0 % right from the robust source; 0.0 to 2.0 % from its natural twin"
    )
    alike = [row("control", "linear-probe", 178, 118)]
    for rows in ([*SOURCE, *alike], SOURCE):
        assert headline(rows, "the source") == "Strategies from the source, side by side"


def test_every_pair_apart_is_said_in_a_sentence() -> None:
    first, second, *_ = sentences([*SOURCE, *CONTROL], 0.1, N, "the robust source")
    assert first == (
        "Every strategy from the robust source is more robust than every one from its natural twin: 60.0 to 62.0 % against "
        "0.0 to 2.0 %; the intervals do not overlap."
    )
    assert second == (
        "From the robust source against from its natural twin, more accurate on clean images: lwf (92.0 % against 75.0 %); "
        "no clear difference in how accurate on clean images they are: linear-probe (90.0 % against 89.0 %)."
    )


def test_a_control_that_is_better_is_said_to_be() -> None:
    swapped = [{**r, "group": "source"} for r in CONTROL] + [{**r, "group": "control"} for r in SOURCE]
    first = sentences(swapped, 0.1, N, "the source")[0]
    assert first.startswith(
        "Every strategy from the source is less robust than every one from its natural twin: 0.0 to 2.0 %"
    )


def test_without_a_control_nothing_is_said_of_one() -> None:
    said = " ".join(sentences(SOURCE, 0.1, N, "the source"))
    assert "twin" not in said
    assert "not clearly different in how robust they are (2.0 points apart)" in said


@pytest.mark.parametrize(
    ("robust", "told"),
    [
        (180, "Under attack: clearly above both strategies from the source."),
        (60, "Under attack: clearly below both strategies from the source."),
        (122, "Under attack: not clearly different from both strategies from the source."),
        (95, "Under attack: clearly below lwf, not clearly different from linear-probe from the source."),
    ],
)
def test_training_from_scratch_is_placed_among_the_strategies(robust: int, told: str) -> None:
    rows = [*SOURCE, row("scratch", "natural training", 182, robust)]
    [said] = [sentence for sentence in sentences(rows, 0.1, N, "the source") if "From scratch" in sentence]
    assert told in said
    assert f"reaches 91.0 % clean and {robust / 2:.1f} % under attack." in said
    assert "It took" not in said


def test_what_adversarial_training_took_stands_beside_the_cheapest_strategy() -> None:
    rival = row("scratch", "adversarial training", 182, 150, cost=12345.0, examples=3200)
    said = " ".join(sentences([*SOURCE, rival], 0.1, N, "the source"))
    assert "It took 3,200 adversarial examples and 12,345 image passes; " in said
    assert "; linear-probe took no adversarial examples and 100 passes." in said


def test_differences_among_the_strategies() -> None:
    rows = [row("source", "linear-probe", 180, 120), row("source", "fine-tune", 196, 20)]
    said = " ".join(sentences(rows, 0.1, N, "the source"))
    assert "From the source, most robust: linear-probe (60.0 %); least: fine-tune (10.0 %), 50.0 points apart" in said
    assert "most accurate on clean images: fine-tune (98.0 %); least: linear-probe (90.0 %)" in said


def test_the_constant_classifier_is_a_rival() -> None:
    rows = [*SOURCE, *CONTROL, row("scratch", "natural training", 182, 24)]
    above, below = sentences(rows, 0.105, N, "the source")[-2:]
    assert above == "Under attack, clearly better than saying one class always (10.5 %): linear-probe, lwf."
    assert below == (
        "Under attack, not clearly better than saying one class always (10.5 %): linear-probe (natural twin), lwf (natural "
        "twin), natural training (from scratch)."
    )
