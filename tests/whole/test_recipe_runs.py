"""Every packaged recipe runs at its smoke scale, from one command."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from robust_transfer.report import write_report
from robust_transfer.run import Run
from robust_transfer.study import load_recipe, packaged, run_study
from robust_transfer.study.fronts import contests
from robust_transfer.study.outcomes import read_outcomes
from robust_transfer.study.recipe import Recipe, cells
from robust_transfer.study.store import Store


def assert_filters(recipe: Recipe, out: Path) -> None:
    """The distances of both sources after every block, and a page with both sources' pictures."""
    layers = pd.read_parquet(out / "layers.parquet")
    assert set(layers["source"]) == set(recipe.sources)
    counts = layers.groupby("source")["layer"].nunique()
    assert counts.nunique() == 1
    assert counts.iloc[0] >= 4
    assert (layers["distance"] > 0).all()
    pictures = json.loads((out / "pictures.json").read_text())["sources"]
    assert [len(source["units"]) + 2 * len(source["rebuilt"]) for source in pictures] == [9, 9]
    page = write_report([out], out / "page.html").read_text()
    assert page.count("data:image/png") == 3 + 2 * 2 * 3  # the images, and two kinds of pictures of two sources
    assert (out / "layers.svg").read_text().startswith("<svg")


@pytest.fixture
def sources(common: Path) -> Path:
    """One folder of sources for all studies: several train the very same one, and the store makes it once."""
    return common / "sources"


@pytest.mark.parametrize("name", list(packaged()))
def test_every_recipe_runs_at_smoke_scale(
    name: str, tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an epoch teaches nobody to tell digits apart; the check on collapse has its own test
    monkeypatch.setattr("robust_transfer.production.refuse_collapse", lambda *_: None)
    for method in ("folder", "once"):  # its lock is there, too
        own = getattr(Store, method)
        monkeypatch.setattr(
            Store,
            method,
            lambda store, kind, *more, own=own: own(Store(sources) if kind == "sources" else store, kind, *more),
        )
    recipe = load_recipe(name, scale="smoke")
    table = run_study(recipe, tmp_path, run=Run(quiet=True, threads=1, precision="float32", device="cpu"))
    assert len(table) == len(cells(recipe))
    if recipe.filters is not None:
        assert_filters(recipe, tmp_path)
        return
    assert len(table) >= 2
    assert table["failure"].isna().all(), table["failure"].dropna().tolist()
    assert table["robust"].le(table["clean"]).all()
    assert pd.read_parquet(tmp_path / "table.parquet").shape == table.shape
    report = (tmp_path / "report.md").read_text()
    assert recipe.title in report
    assert "not measured" not in report
    fronts = contests(recipe, table, read_outcomes(tmp_path) or {})
    assert bool(fronts) == (recipe.fronts is not None)
    assert report.count("![") == len(recipe.plots) + len(fronts)
    assert len(list(tmp_path.glob("*.svg"))) == len(recipe.plots) + len(fronts)
