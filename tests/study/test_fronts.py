"""Contests from a table and outcomes: seeds paired, val chooses, ends of the curve, mixtures and what is lost."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from robust_transfer.errors import DataError
from robust_transfer.statistics.frontier_gain import above_front
from robust_transfer.statistics.intervals import wilson
from robust_transfer.study import front_tables
from robust_transfer.study.front_plots import picture, picture_file
from robust_transfer.study.fronts import Contest, contests
from robust_transfer.study.outcomes import Judged
from robust_transfer.study.reading import load_recipe
from robust_transfer.study.recipe import Fronts, Recipe

N = 120
POINTS = {  # clean and robust accuracy on test, and on val
    ("probe", 1.0): ((0.5, 0.4), (0.5, 0.4)),
    ("probe", 0.1): ((0.7, 0.2), (0.7, 0.2)),
    ("lwf", 1.0): ((0.75, 0.3), (0.6, 0.37)),
    ("lwf", 0.3): ((0.9, 0.25), (0.9, 0.3)),  # best on test; val keeps too little
    ("tuned", None): ((0.95, 0.05), (0.9, 0.0)),
    ("mix", 0.9): ((0.4, 0.3), (0.4, 0.4)),
}
Made = tuple[Recipe, pd.DataFrame, dict[str, Judged]]


@pytest.fixture
def made() -> Made:
    recipe = replace(load_recipe("beyond", scale="smoke"), fronts=Fronts(baseline="probe", choose=("val",)))
    rows, outcomes = [], dict[str, Judged]()
    for ((strategy, value), shares), seed, where in product(POINTS.items(), (0, 1), ("pgd", "val")):
        clean, robust = (round(N * share) + seed for share in shares[where == "val"])
        key = f"{strategy}-{value}-{seed}-{where}"
        row: dict[str, Any] = {
            "source": "robust",
            "task": "t",
            "strategy": strategy,
            "class_weights": None,
            "shots": None,
        }
        row |= {
            "seed": seed,
            "evaluation": where,
            "set.x": value,
            "evaluated": key,
            "failure": None,
            "n": N,
            "cost": 10.0 + seed,
        }
        row |= {"threat": "linf:0.1", "attack": "pgd-3", "constant": 0.2, "mixture": strategy == "mix"}
        for level, count in (("clean", clean), ("robust", robust)):
            found = wilson(count, N)
            row |= {level: found.value, f"{level}_low": found.low, f"{level}_high": found.high}
        rows.append(row)
        order = np.random.default_rng(0).permutation(N)
        right = np.where(order < robust, 2, np.where(order < clean, 1, 0)).astype(np.int8)
        outcomes[key] = Judged(np.arange(N), right)
    return recipe, pd.DataFrame(rows), outcomes


def contest(made: Made) -> Contest:
    [found] = contests(*made)
    return found


def test_each_setting_has_the_gain_of_its_own_outcomes_seed_by_seed(made: Made) -> None:
    found, rights = contest(made), {key: judged.correctness() for key, judged in made[2].items()}
    lwf = {one.name: one for rival in found.rivals if rival.name == "lwf" for one in rival.settings}
    curves = [[rights[f"probe-{l2}-{seed}-pgd"] for l2 in (1.0, 0.1)] for seed in (0, 1)]
    one = lwf["x = 0.3"]
    assert one.gain is not None
    assert one.gain.figure == above_front([rights[f"lwf-0.3-{seed}-pgd"] for seed in (0, 1)], curves)
    assert one.gain.figure.value == pytest.approx(0.9 - 0.65)
    assert (one.seeds, one.passes, one.verdict) == ((0, 1), 10.5, "gains")
    assert found.over == pytest.approx((24.5 / N, 48.5 / N))
    assert [s.verdict for s in found.base.settings] == ["baseline"] * 2


def test_val_chooses_by_the_rule_and_test_does_not(made: Made) -> None:
    assert {rival.name: rival.chosen and rival.chosen.name for rival in contest(made).rivals} == {
        "probe": "x = 1", "lwf": "x = 1", "tuned": "as it is", "mix": "x = 0.9",
    }  # fmt: skip
    made[1].loc[made[1]["evaluation"] == "val", "threat"] = "linf:0.2"
    assert all(rival.chosen is None for rival in contest(made).rivals), "val at another threat chooses nothing"


def test_what_is_less_robust_than_the_curve_has_no_gain(made: Made) -> None:
    [row] = [row for row in front_tables.setting_rows(contest(made)) if row[0] == "tuned"]
    assert "none (less robust)" in row
    assert row[6] == "none, none"
    [whole] = [row for row in front_tables.rival_rows(contest(made)) if row[0] == "tuned"]
    assert whole[-1] == "0 / 0 / 0 / 1"


def test_losers_are_shown_and_a_mixture_says_how_it_was_attacked(made: Made) -> None:
    rows = front_tables.rival_rows(contest(made))
    assert [row[0] for row in rows] == ["probe", "lwf", "mix", "tuned"]
    assert "loses" in rows[2][4]
    assert rows[2][4].startswith("-20")
    assert front_tables.notes(contest(made)) == [
        "mix: a mixture of two networks, not attacked through each of them (pgd-3)."
    ]
    made[1].loc[made[1]["strategy"] == "mix", "attack"] = "strong+through-parts-20"
    assert "networks, attacked through each of them (strong" in front_tables.notes(contest(made))[0]


def test_one_seed_in_all_needs_no_column_of_seeds(made: Made) -> None:
    recipe, table, outcomes = made
    for one, there in ((table, True), (table[table["seed"] == 0], False)):
        found = contest((recipe, one, outcomes))
        head, rows = front_tables.filled(front_tables.SETTINGS, front_tables.setting_rows(found))
        assert ("by seed" in head) is there
        assert {len(row) for row in rows} == {len(head)}
    assert front_tables.filled(("a", "b", "c"), [("1", "", "3"), ("", "", "4")]) == (
        ("a", "c"),
        [("1", "3"), ("", "4")],
    )


def test_other_threats_are_those_of_the_setting_that_val_has_chosen(made: Made) -> None:
    assert front_tables.other_rows(contest(made))[1] == [], "nothing else was measured"
    table = made[1]
    for level, least in (("also.l2:0.5", 0.1), ("corrupted", 0.3)):
        for value, name in ((least, ""), (least - 0.05, "_low"), (least + 0.05, "_high")):
            table[level + name] = np.where(table["set.x"] == 1.0, value, value / 2)
    table.loc[table["strategy"] == "tuned", ["corrupted"]] = np.nan
    head, rows = front_tables.other_rows(contest(made))
    assert head[2:] == ("clean, %", "linf:0.1, %", "l2:0.5, %", "corrupted, %")
    shown = {row[0]: row[1:] for row in rows}
    assert shown["lwf"][0] == "x = 1"
    assert shown["lwf"][3].startswith("10.0 ["), "not of the setting that is best on test"
    assert shown["lwf"][4].startswith("30.0 [")
    assert shown["tuned"][3:] == (shown["mix"][3], ""), "what one strategy lacks is left empty"


def test_cells_without_figures_are_counted_and_their_seeds_left_out(made: Made) -> None:
    recipe, table, outcomes = made
    lost = (table["evaluated"] == "lwf-0.3-1-pgd") | (table["evaluated"] == "probe-1.0-0-pgd")
    table.loc[lost, "failure"] = "loss is no number"
    found = contest((recipe, table, outcomes))
    [lwf] = [rival for rival in found.rivals if rival.name == "lwf"]
    assert lwf.lost == 1
    assert lwf.settings[1].seeds == (0,)
    assert front_tables.seeds(lwf.settings[1]) == "seed 0"
    assert lwf.settings[0].verdict == "outside", "more robust than what is left of the first seed's curve"
    assert "more robust in 1 of 2 seeds" in front_tables.gain(lwf.settings[0])
    assert lwf.area is not None


def test_outcomes_of_other_images_are_refused(made: Made) -> None:
    made[2]["lwf-1.0-0-pgd"] = Judged(np.arange(N) + 1, made[2]["lwf-1.0-0-pgd"].right)
    with pytest.raises(DataError, match="other images"):
        contests(*made)
    del made[2]["lwf-1.0-0-pgd"]
    with pytest.raises(DataError, match="missing"):
        contests(*made)


def test_a_study_without_fronts_has_no_contests(made: Made) -> None:
    assert contests(replace(made[0], fronts=None), *made[1:]) == []
    assert contests(replace(made[0], fronts=Fronts(baseline="lp-ft")), *made[1:]) == []


def test_the_picture_has_every_setting_and_fills_what_val_has_chosen(made: Made) -> None:
    found = picture(contest(made))
    assert isinstance(found.figure, Figure)
    assert [len(words) for words in found.words.values()] == [2, 2, 1, 1]
    [axes] = found.figure.axes
    filled = [
        line
        for line in axes.lines
        if line.get_markerfacecolor() not in ("none", None) and np.size(np.asarray(line.get_xdata())) == 1
    ]
    assert [round(float(np.asarray(line.get_xdata())[0])) for line in filled if line.get_marker() != "None"] == [
        50,
        75,
        95,
        40,
    ]
    assert picture_file(contest(made)).startswith("<svg")


def test_only_a_study_with_fronts_keeps_outcomes(plain: tuple[Path, pd.DataFrame]) -> None:
    assert not (plain[0] / "outcomes.parquet").exists()
