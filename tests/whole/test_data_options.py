"""Options of the data on the command line: ``--duplicates``, ``--class-map``, ``--split-column``, ``--split val``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from images import encoded, picture
from typer.testing import CliRunner

from robust_transfer import cli
from robust_transfer.errors import DataError

CLASSES = ("ant", "bee", "cat")
BRIEF = ("--attack", "fgsm", "--red-flag-examples", "0", "--transfer-attack-examples", "0", "--threads", "1", "--quiet")


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that their colour gives away; four of the test images of the first are in train, too."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for split, count in (("train", 40), ("test", 12)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = picture(label, index + (1000 if split == "test" else 0), 32) // 3
                pixels[..., label] += 150
                (root / split / name / f"{index:03d}.png").write_bytes(encoded(pixels))
    for index in range(4):
        shutil.copy(root / "test" / "ant" / f"{index:03d}.png", root / "train" / "ant" / f"copy{index}.png")
    return root


def transferred(folder: Path, out: Path, *more: str) -> dict[str, Any]:
    words = ("--strategy", "linear-probe", "--set", "l2=0.1", "--threads", "1", "--quiet", *more)
    run("transfer", "--source", "bundled", "--data", folder, "--out", out, *words)
    card: dict[str, Any] = json.loads((out / "card.json").read_text())
    return card


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "run"
    transferred(folder, out)
    return out


def evaluated(model: Path, folder: Path, out: Path, *more: str | Path) -> dict[str, Any]:
    run("evaluate", model, "--data", folder, "--out", out, *BRIEF, *more)
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
    return found


def test_duplicates_are_told_or_left_out(folder: Path, model: Path, tmp_path: Path) -> None:
    told = json.loads((model / "card.json").read_text())["data"]
    dropped = transferred(folder, tmp_path / "run", "--duplicates", "drop")["data"]
    assert told["train"] + told["val"] == 3 * 40 + 4
    assert dropped["train"] + dropped["val"] == 3 * 40
    assert any("4 of 36 test images are in train too" in note for note in told["notes"])
    flags = evaluated(model, folder, tmp_path / "told")["flags"]
    assert any("trained on" in flag and "4 of" in flag for flag in flags), flags
    assert not any("trained on" in f for f in evaluated(tmp_path / "run", folder, tmp_path / "clean")["flags"])


def test_classes_of_other_names_are_mapped_by_a_file(folder: Path, model: Path, tmp_path: Path) -> None:
    plain = evaluated(model, folder, tmp_path / "plain")["clean_accuracy"]["value"]
    assert plain > 0.9, "the colour gives the class away"
    renamed = tmp_path / "renamed"
    shutil.copytree(folder, renamed)
    for split in ("train", "test"):
        for name, other in zip(CLASSES, ("zebra", "mouse", "Katze"), strict=True):  # another order, too
            (renamed / split / name).rename(renamed / split / other)
    refused = CliRunner().invoke(cli.app, ["evaluate", str(model), "--data", str(renamed), *BRIEF])
    with pytest.raises(
        DataError, match=r"only in the model 'ant', 'bee', 'cat'; only in the data 'Katze', 'mouse', 'zebra'"
    ):
        raise refused.exception or AssertionError
    (tmp_path / "map.csv").write_text("zebra,ant\nmouse,bee\nKatze,cat\n")
    mapped = evaluated(model, renamed, tmp_path / "mapped", "--class-map", tmp_path / "map.csv")
    assert mapped["clean_accuracy"]["value"] == plain
    assert any("'Katze' is 'cat'" in note for note in mapped["notes"])
    (tmp_path / "turned.csv").write_text("zebra,bee\nmouse,cat\nKatze,ant\n")
    assert (
        evaluated(model, renamed, tmp_path / "t", "--class-map", tmp_path / "turned.csv")["clean_accuracy"]["value"]
        < 0.1
    )


def test_the_column_of_splits_is_given(folder: Path, model: Path, tmp_path: Path) -> None:
    """The same photos in a table: the same model, and the same figures."""
    rows = [f"{path},{path.parent.name},{path.parent.parent.name}" for path in sorted(folder.rglob("*.png"))]
    table = tmp_path / "photos.csv"
    table.write_text("\n".join(["image,label,phase", *rows]) + "\n")
    sheet = ("--contact-sheet", tmp_path / "sheet.png")
    found = json.loads(run("data", table, "--split-column", "phase", *sheet, "--json", "--quiet"))
    assert {name: split["images"] for name, split in found["splits"].items()} == {"train": 124, "test": 36}
    card = transferred(table, tmp_path / "run", "--split-column", "phase")
    assert card["data"]["train"] + card["data"]["val"] == 124
    plain = evaluated(model, folder, tmp_path / "plain")
    listed = evaluated(model, table, tmp_path / "listed", "--split-column", "phase")
    assert [listed[what] for what in ("data_hash", "clean_accuracy")] == [
        plain[what] for what in ("data_hash", "clean_accuracy")
    ]


def test_split_val_is_the_cards_own(folder: Path, model: Path, tmp_path: Path) -> None:
    """Whatever seed or share a val split would be cut with today."""
    held_out = json.loads((model / "card.json").read_text())["data"]["val"]
    found = evaluated(model, folder, tmp_path / "val", "--split", "val", "--seed", "7")
    assert (found["split"], found["clean_accuracy"]["n"]) == ("val", held_out)
    assert not any("trained on" in flag for flag in found["flags"])
