"""Columns that say the splits of a table's rows: by usual names, by a given one, and what is refused or said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_tables import PETS, WRITERS, files, found, message, write
from images import encoded, picture, write_parquet

from robust_transfer.data import load_task
from robust_transfer.data.formats.base import Role
from robust_transfer.data.formats.row_splits import roles_of
from robust_transfer.errors import DataError

PHASES = ["training", "TEST", "dev", "train"] * 2
ROLES: list[Role] = ["train", "test", "val", "train"] * 2


def expected(roles: Sequence[str] = ROLES) -> dict[int, tuple[str, str]]:
    return {i: (role, PETS[i]) for i, role in enumerate(roles)}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_column_says_the_splits(tmp_path: Path, suffix: str) -> None:
    files(tmp_path / "all", 12)
    said = ["train", "Test", "validation"] * 4
    labels = ["a", "a", "a", "b", "b", "b"] * 2
    columns: dict[str, Sequence[object]] = {
        "image": [f"all/{i}.png" for i in range(12)],
        "label": labels,
        "split": said,
        "fold": list(range(12)),
    }
    task = load_task(write(tmp_path / "x" / ".." / f"t{suffix}", columns))
    roles = {"train": "train", "Test": "test", "validation": "val"}
    assert found(task) == {i: (roles[said[i]], labels[i]) for i in range(12)}
    assert task.notes == (f"the column 'fold' of t{suffix} is not used: it names no splits",)
    other = write(tmp_path / f"test{suffix}", columns)  # the column says more than the name
    assert load_task(other).notes[0] == f"test{suffix} alone is read, not what lies beside it: 't{suffix}'"


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_column_of_another_name_is_given(tmp_path: Path, suffix: str) -> None:
    columns: dict[str, Sequence[object]] = {"image": files(tmp_path, 8), "label": PETS, "Phase of it": PHASES}
    path = write(tmp_path / f"t{suffix}", columns)
    task = load_task(path, split_column="Phase of it")
    assert (found(task), task.notes) == (expected(), ())


@pytest.mark.parametrize("suffix", WRITERS)
def test_one_that_is_not_given_is_not_used_which_is_said(tmp_path: Path, suffix: str) -> None:
    columns: dict[str, Sequence[object]] = {
        "image": files(tmp_path, 8), "label": PETS, "phase": PHASES, "about": ["train", "trail"] * 4,
        "all": ["train"] * 8, "is_test": [i % 2 for i in range(8)],
    }  # fmt: skip
    task = load_task(write(tmp_path / f"t{suffix}", columns), val=0)
    assert {role for role, _ in found(task).values()} == {"train", "test"}
    said = "of t{} seems to say the splits, and is not used: to have them, give split_column='{}'"
    notes = [note for note in task.notes if "column" in note]
    assert notes == [f"the column '{name}' {said.format(suffix, name)}" for name in ("phase", "is_test")]


def test_the_given_one_counts_before_those_of_usual_names(tmp_path: Path) -> None:
    columns: dict[str, Sequence[object]] = {
        "image": files(tmp_path, 8), "label": PETS, "split": ["train", "train", "test", "test"] * 2, "phase": PHASES,
        "fold": [0, 1] * 4,
    }  # fmt: skip
    path = write(tmp_path / "t.csv", columns)
    task = load_task(path, split_column="phase")
    assert found(task) == expected()
    assert task.notes == tuple(
        f"the column '{name}' of t.csv is not used: split_column is 'phase'" for name in ("split", "fold")
    )
    assert found(load_task(path, split_column="split", val=0)) == expected(["train", "train", "test", "test"] * 2)


def test_the_given_one_is_no_column_of_labels(tmp_path: Path) -> None:
    """Though it has the name of one."""
    columns: dict[str, Sequence[object]] = {"image": files(tmp_path, 8), "label": PHASES, "target": PETS}
    path = write(tmp_path / "t.csv", columns)
    assert found(load_task(path, split_column="label")) == expected()
    assert message(path, split_column="label", label_column="label").endswith(
        "label_column and split_column are both 'label': give each a column of its own"
    )


@pytest.mark.parametrize(("yes", "no"), [(True, False), ("Yes", "no"), (1, 0), ("1", " 0")])
@pytest.mark.parametrize(
    ("name", "asked", "other"),
    [("is_training_image", "train", "test"), ("Is Test", "test", "train"), ("is_val", "val", "train")],
)
def test_a_column_that_affirms_or_denies_one_split(yes: Any, no: Any, name: str, asked: Role, other: Role) -> None:
    roles, notes = roles_of({name: [yes, no, no, yes]}, "t.csv", None, name)
    assert roles == [asked, other, other, asked]
    assert notes == [f"rows for which the column {name!r} says no are taken for {other}"]


@pytest.mark.parametrize("data", ["split", "phase"])
@pytest.mark.parametrize("limit", [2**31, 0])
def test_rows_that_hold_images(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, data: str, limit: int
) -> None:
    """Text, text that is stored as a dictionary, and classes with names."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    datasets.disable_progress_bars()
    monkeypatch.setattr("robust_transfer.data.split.MEMORY_LIMIT", limit)
    contents = [encoded(picture(0, i)) for i in range(8)]
    given = {} if data == "split" else {"split_column": data}
    for column in (pa.array(PHASES), pa.array(PHASES).dictionary_encode(), pa.array(PHASES, pa.large_string())):
        path = write_parquet(tmp_path / "all.parquet", PETS, contents=contents, extra={data: column})
        assert found(load_task(path, **given)) == expected()  # type: ignore[arg-type]
    names = ["test", "train", "validation"]
    features = datasets.Features({
        "image": datasets.Image(), "label": datasets.Value("string"), data: datasets.ClassLabel(names=names)
    })  # fmt: skip
    numbers = [{"train": 1, "test": 0, "val": 2}[role] for role in ROLES]
    table = pq.read_table(path).drop_columns([data]).append_column(data, pa.array(numbers))
    pq.write_table(table.cast(features.arrow_schema), path)
    assert found(load_task(path, **given)) == expected()  # type: ignore[arg-type]


def test_of_rows_that_hold_images_a_column_is_not_used_unless_it_is_given(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "all.parquet", PETS, extra={"phase": PHASES, "text": ["train", "x"] * 4})
    [note] = [note for note in load_task(path, val=0).notes if "column" in note]
    assert note.startswith("the column 'phase' of all.parquet seems to say the splits, and is not used")


def test_files_whose_names_say_the_splits(tmp_path: Path) -> None:
    """A column that is given may not deny them."""
    for kind in ("paths", "images"):
        for split, first, words in (("train", 0, ["train", "training"]), ("test", 20, ["test", "test"])):
            path = tmp_path / kind / f"{split}.parquet"
            path.parent.mkdir(exist_ok=True)
            if kind == "paths":
                write(path, {"image": files(path.parent, 4, first), "label": PETS[:4], "phase": words * 2})
            else:
                contents = [encoded(picture(0, i)) for i in range(first, first + 4)]
                write_parquet(path, PETS[:4], contents=contents, extra={"phase": words * 2})
        task = load_task(tmp_path / kind, val=0, split_column="phase")
        assert {i: role for i, (role, _) in found(task).items()} == {
            **dict.fromkeys(range(4), "train"), **dict.fromkeys(range(20, 24), "test")
        }  # fmt: skip
        (tmp_path / kind / "test.parquet").rename(tmp_path / kind / "val.parquet")
        assert (
            "val.parquet is called as validation is, and its column 'phase' says test: rename one of them"
            in message(tmp_path / kind, split_column="phase")
        )


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("name", "cells", "given", "said"),
    [
        ("split", [0, 1, 2, 0, 1, 2, 0, 1], {}, "says no split by its name, but '0', '1', '2': write train"),
        ("split", ["train"] * 7 + ["holdout"], {}, "says 'holdout' in 1 rows, which no known split is called"),
        ("phase", ["train"] * 7 + ["hold"], {"split_column": "phase"}, "says 'hold' in 1 rows, which no known split"),
        ("phase", ["train"] * 7 + [""], {"split_column": "phase"}, "says '' in 1 rows, which no known split is called"),
        ("phase", [0, 1] * 4, {"split_column": "phase"}, "says '0', '1' in 8 rows, which no known split is called: write"),
        ("is_test", [0, 1, 2, 1] * 2, {"split_column": "is_test"}, "says '0', '1', '2' in 8 rows, which no known split is"),
        ("phase", PHASES, {"split_column": "Phase"}, "there is no column 'Phase' (columns: image, label, phase): did you"),
    ],
)  # fmt: skip
def test_what_leaves_doubt_is_refused(
    tmp_path: Path, suffix: str, name: str, cells: Sequence[object], given: dict[str, str], said: str
) -> None:
    path = write(tmp_path / f"t{suffix}", {"image": files(tmp_path, 8), "label": PETS, name: cells})
    assert said in message(path, **given)
    if suffix == ".parquet":  # the images themselves in place of their paths
        path = write_parquet(tmp_path / "own" / "images.parquet", PETS, extra={name: cells})
        assert said in message(path, **given)


def test_two_columns_that_contradict_each_other(tmp_path: Path) -> None:
    columns: dict[str, Sequence[object]] = {
        "image": files(tmp_path, 8), "label": PETS, "split": ["train", "test"] * 4, "set": ["train"] * 4 + ["test"] * 4,
    }  # fmt: skip
    path = write(tmp_path / "t.csv", columns)
    said = f"the columns 'split' and 'set' of {path} say different splits: name one of them as split_column"
    assert message(path) == said


def test_shards_that_lack_the_column(tmp_path: Path) -> None:
    for i in range(2):
        write_parquet(tmp_path / f"{i}.parquet", PETS, extra={"phase": PHASES} if not i else {})
    with pytest.raises(DataError, match=r"1\.parquet lacks the column 'phase', which 0\.parquet has"):
        load_task(tmp_path, split_column="phase")


def test_a_column_of_other_things(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", PETS, extra={"phase": [[1, 2]] * 8})
    assert (
        message(path, split_column="phase")
        == f"the column 'phase' of {path} holds no text: choose another split_column"
    )
