"""A study's plots: what a line joins, what a panel shows, by the data that matplotlib is given."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from robust_transfer.study import plots
from robust_transfer.study.plots import _panel, drawable, lines, panels, picked
from robust_transfer.study.recipe import PlotSpec


@pytest.fixture
def table() -> pd.DataFrame:
    """Two strategies, three values of l2, two seeds; a seed shifts both accuracies by a point."""
    rows = []
    for strategy, l2, seed in product(("probe", "lwf"), (0.0, 0.1, 1.0), (0, 1)):
        robust = 0.1 + 0.2 * l2 + 0.01 * seed
        clean = 0.8 - 0.3 * l2 - 0.01 * seed + 0.05 * (strategy == "lwf")
        rows.append({"source": "robust", "task": "t", "strategy": strategy, "shots": None, "seed": seed} |
                    {"evaluation": "pgd", "set.l2": l2, "clean": clean, "robust": robust, "cost": 100.0 + l2} |
                    {"constant": 0.1, "threat": "linf:8/255", "failure": None})  # fmt: skip
    return pd.DataFrame(rows)


def drawn(table: pd.DataFrame, spec: PlotSpec, level: Any = "clean") -> tuple[dict[str, Any], Any]:
    axes = Figure().subplots()
    _panel(axes, table, spec, level)
    return {str(line.get_label()): np.stack([*map(np.asarray, line.get_data())], 1) for line in axes.lines}, axes


def test_a_line_joins_means_over_seeds_and_seeds_are_points(table: pd.DataFrame) -> None:
    found, axes = drawn(table, PlotSpec(x="set.l2", log=True))
    assert found["lwf"] == pytest.approx(np.array([[0.0, 84.5], [0.1, 81.5], [1.0, 54.5]]))
    assert sum(len(line.get_xdata()) == 6 for line in axes.lines) == 2
    assert axes.get_xscale() == "symlog"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("l2", "clean accuracy, %")


def test_over_an_accuracy_a_point_is_a_setting_and_not_a_seed(table: pd.DataFrame) -> None:
    found, axes = drawn(table.sample(frac=1, random_state=0), PlotSpec(x="robust", levels=("clean",)))
    assert found["probe"] == pytest.approx(np.array([[10.5, 79.5], [12.5, 76.5], [30.5, 49.5]]))
    assert axes.get_xlabel() == "robust accuracy, % (linf:8/255)"


def test_cost_is_told_in_passes_on_a_logarithmic_axis_without_the_constant_row(table: pd.DataFrame) -> None:
    found, axes = drawn(table, PlotSpec(x="set.l2"), "cost")
    assert found["lwf"][:, 1] == pytest.approx([100, 100.1, 101])
    assert axes.get_yscale() == "log"
    assert len(axes.lines) == 4


def test_names_have_places(table: pd.DataFrame) -> None:
    found, axes = drawn(table, PlotSpec(x="strategy", by="source"))
    assert found["robust"][:, 0].tolist() == [0, 1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["probe", "lwf"]


def test_a_plot_has_a_panel_a_level_and_only_the_rows_it_asks_for(table: pd.DataFrame) -> None:
    spec = PlotSpec(x="set.l2", levels=("clean", "robust", "cost"), where={"strategy": "lwf"}, title="A title")
    rows = picked(pd.concat([table, table.assign(failure="diverged")]), spec.where)
    assert set(rows["strategy"]) == {"lwf"}
    assert len(rows) == 6
    assert lines(rows, spec).count("<g id=\"axes_") == 3  # fmt: skip
    assert picked(table, {"shots": None}).equals(table)


def test_rows_without_a_value_stand_where_the_recipe_says(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[pd.DataFrame] = []

    def panel(axes: Any, rows: pd.DataFrame, *_: Any) -> None:
        seen.append(rows)
        axes.plot([0], label="drawn")

    monkeypatch.setattr(plots, "_panel", panel)
    table["set.l2"] = table["set.l2"].replace(0.1, np.nan)
    spec = PlotSpec(x="set.l2", otherwise=5.0)
    rows = drawable(table, spec)
    assert rows is not None
    lines(rows, spec)
    assert sorted(set(seen[0]["set.l2"])) == [0.0, 1.0, 5.0]
    assert table["set.l2"].isna().sum() == 4


def test_tasks_that_differ_in_their_constant_have_one_each(table: pd.DataFrame) -> None:
    found, _ = drawn(table, PlotSpec(x="strategy"))
    assert found["constant"][:, 1].tolist() == [10, 10]
    table.loc[table["strategy"] == "lwf", "constant"] = 0.01
    found, _ = drawn(table, PlotSpec(x="strategy"))
    assert found["constant"].tolist() == [[0, 10], [1, 1]]


def test_panels_of_a_page_have_every_seed_in_words(table: pd.DataFrame) -> None:
    clean, cost = panels(table, PlotSpec(x="set.l2", levels=("clean", "cost")))
    assert (clean.level, cost.level) == ("clean", "cost")
    assert len(clean.points) == len(table) == 12
    assert ("lwf", "l2 0.1", "1", "81.0 %") in clean.points
    assert ("probe", "l2 1", "0", "101 image passes") in cost.points
    assert clean.drawing.words["clean-1"][0] == "lwf, l2 0, seed 0: 85.0 %"
    ids = [line.get_gid() for line in clean.drawing.figure.axes[0].lines]
    assert {"clean-0", "clean-1"} <= set(ids)


def test_a_plot_without_rows_is_none(table: pd.DataFrame) -> None:
    assert drawable(table, PlotSpec(x="set.other")) is None
    assert drawable(table.assign(failure="diverged"), PlotSpec(x="set.l2")) is None
    assert drawable(table.assign(**{"set.l2": np.nan}), PlotSpec(x="set.l2")) is None
