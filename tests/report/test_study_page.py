"""The page on a study: claims, means over seeds, plots and how it was made; names stay text."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from report_helpers import NASTY, Page, study

from robust_transfer.drawing.plots import png
from robust_transfer.report import write_report

LIMIT = 3_000_000


def made(folder: Path, out: Path) -> Page:
    return Page.of(write_report([folder], out, pictures=False))


def test_all_of_a_study_is_on_its_page(tmp_path: Path) -> None:
    found = made(study(tmp_path / "s"), tmp_path / "r.html")
    said = found.words()
    assert found.text.count("What is handed down") >= 2  # the title in the head, and the headline
    assert "a paper. Recipe small, scale smoke. 8 of 9 cells are made; the same study command goes on" in said
    assert "Of 2 claims: 1 holds, 0 fails, 1 open." in said
    assert "holds robustness is handed down +39.0 points [+30.0, +48.0]" in said
    assert "Most robust: robust, l2 = 1, 39.0 % [" in said
    assert "Most accurate: natural, l2 = 0.1, 82.0 % [" in said
    rows = found.table("setting", "clean", "robust", "seeds")
    assert [row[0].strip() for row in rows] == [
        "1: robust, l2 = 1 ★", "2: robust, l2 = 0.1 ★", "3: natural, l2 = 1", "4: natural, l2 = 0.1 ★",
    ]  # fmt: skip
    assert [row[1].partition(" %")[0] for row in rows] == ["51.0", "63.0", "70.0", "82.0"]
    assert [row[3] for row in rows] == ["2 (0, 1)"] * 4
    assert [row[5] for row in rows] == ["none", "none", "in 2 of 2", "in 2 of 2"]
    assert "Red flag (4 cells): constant classifier is more robust" in said
    assert len(found.table("source", "task", "strategy")) == 8
    assert ["robust", "0.1", "1", "66.0 %"] in found.table("source", "l2", "seed", "Clean accuracy")
    told = dict(found.table("command"))
    assert "1.5 minutes, 8 cells" in said
    assert "robust-transfer study small --jobs 2" in said
    assert told["hardware"] == "cpu a CPU, gpu none"


def test_ids_are_unique_over_several_studies(tmp_path: Path) -> None:
    for name in "ab":
        study(tmp_path / "all" / name)
    found = made(tmp_path / "all", tmp_path / "r.html")
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert "What is handed down, and 1 more" in found.text


def test_names_of_a_recipe_stay_text(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", title=NASTY[1])
    text = json.loads((folder / "study.json").read_text())
    text["recipe"]["notes"] = NASTY[2]
    (folder / "study.json").write_text(json.dumps(text))
    table = pd.read_parquet(folder / "table.parquet")
    table["source"] = table["source"].replace({"robust": NASTY[0], "natural": NASTY[4]})
    table.to_parquet(folder / "table.parquet")
    found = made(folder, tmp_path / "r.html")
    assert len(found.scripts) == 1
    assert "alert" not in found.scripts[0]
    assert "b" not in [tag for tag, _ in found.tags]
    for told in (NASTY[0], NASTY[1], NASTY[2], NASTY[4]):
        assert told in found.text
    assert all(not name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_many_cells_stay_within_the_limit(tmp_path: Path) -> None:
    target = write_report([study(tmp_path / "s", repeats=500)], tmp_path / "r.html", pictures=False)
    assert target.stat().st_size < LIMIT
    said = Page.of(target).words()
    assert "3,000 more are in table.parquet" in said


@pytest.mark.parametrize("pictures", [True, False])
def test_features_under_attack(tmp_path: Path, pictures: bool) -> None:
    folder = study(tmp_path / "s")
    (folder / "table.parquet").unlink()
    layers = [
        {"source": source, "layer": k, "name": f"block{k}", "distance": 0.1 * (k + 1), "low": 0.05, "high": 0.9}
        for source in ("robust", "natural")
        for k in range(3)
    ]
    pd.DataFrame(layers).assign(n=5, threat="linf:8/255").to_parquet(folder / "layers.parquet")
    grey = png(torch.full((3, 8, 8), 0.5))
    of = {"units": [{"unit": 7, "image": grey}], "rebuilt": [{"label": "<b>", "image": grey, "rebuilt": grey}]}
    how = {"images": 5, "attack_steps": 3, "steps": 9, "threat": "linf:8/255"}
    sources = [{"name": name, **of} for name in ("robust", "natural")]
    (folder / "pictures.json").write_text(json.dumps({"how": how, "sources": sources}))
    found = Page.of(write_report([folder], tmp_path / "r.html", pictures=pictures))
    assert ["robust", "block2", "0.3", "0.05", "0.9"] in found.table("source", "block")
    assert len(found.all("img")) == (5 if pictures else 0)
    assert ("asked for without them" in found.words()) != pictures
