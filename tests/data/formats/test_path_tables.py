"""Tables of image files as people have them: the right task is known from the rows that were written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import contents, pack
from image_tables import PETS, WRITERS, files, found, message, write
from images import encoded, picture, write_classes

from robust_transfer.data import load_task


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("File Name", "Category"), ("path", "class_name")])
def test_columns_by_their_usual_names(tmp_path: Path, suffix: str, image: str, label: str) -> None:
    names = files(tmp_path, 8)
    columns: dict[str, Sequence[object]] = {"width": [8] * 8, label: PETS, image: names}
    task = load_task(write(tmp_path / f"pets{suffix}", columns), val=0)
    assert {i: name for i, (_, name) in found(task).items()} == dict(enumerate(PETS))
    assert (task.name, task.class_names) == ("pets", ("cat", "dog"))


@pytest.mark.parametrize("suffix", WRITERS)
def test_columns_that_are_given(tmp_path: Path, suffix: str) -> None:
    names = files(tmp_path, 8)
    columns: dict[str, Sequence[object]] = {"image": ["?"] * 8, "label": ["x", "y"] * 4, "kind": PETS, "picture": names}
    path = write(tmp_path / f"pets{suffix}", columns)
    task = load_task(path, val=0, image_column="picture", label_column="kind")
    assert {i: name for i, (_, name) in found(task).items()} == dict(enumerate(PETS))


@pytest.mark.parametrize(
    "layout", ["{}.csv", "{}_labels.tsv", "pets-{}.jsonl", "{}/metadata.csv", "data/{}.csv", "set/{}.csv"]
)
def test_a_file_a_split(tmp_path: Path, layout: str) -> None:
    for first, (split, count) in zip((0, 20), (("train", 8), ("test", 4)), strict=True):
        path = tmp_path / layout.format(split)
        write(path, {"file_name": files(path.parent, count, first), "label": PETS[:count]})
    task = load_task(tmp_path, val=0)
    expected = {i: ("train", PETS[i]) for i in range(8)} | {20 + i: ("test", PETS[i]) for i in range(4)}
    assert found(task) == expected


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "labels.csv"])
def test_one_table_beside_flat_images(tmp_path: Path, name: str) -> None:
    files(tmp_path / "images", 9)
    write(tmp_path / name, {"file_name": [f"images/{i}.png" for i in range(8)], "label": PETS})
    (tmp_path / "README.md").write_text("x")
    task = load_task(tmp_path, val=0)
    assert {i: name for i, (_, name) in found(task).items()} == dict(enumerate(PETS))
    assert task.notes[:3] == (
        f"the file is taken as train: {name!r}",
        "left out: 1 images that are in no row of a table (such as '8.png')",
        "left out: 1 files with the extension .md (such as 'README.md')",
    )


@pytest.mark.parametrize("name", ["metadata.csv", "labels.csv"])
def test_class_folders_are_read_and_not_the_table_beside_them(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path, {"cat": 4, "dog": 4})
    write(tmp_path / name, {"file_name": [f"cat/00{i}.png" for i in range(4)], "label": ["x", "y"] * 2})
    task = load_task(tmp_path, val=0)
    assert task.class_names == ("cat", "dog")
    assert f"the classes are the names of the folders: to read {name!r} instead, give it itself" in task.notes
    assert load_task(tmp_path / name, val=0).class_names == ("x", "y")


def test_paths_of_every_kind(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "tables"
    files(a, 8)
    os.symlink(a / "3.png", a / "link.png")
    written = [
        a / "0.png",
        "../a/1.png",
        "./../a/2.png",
        "../a/link.png",
        "..\\a\\4.png",
        *(f"../a/{i}.png" for i in (5, 6, 7)),
    ]
    task = load_task(write(b / "t.csv", {"path": written, "label": PETS}), val=0)
    assert {i: name for i, (_, name) in found(task).items()} == dict(enumerate(PETS))
    assert f"backslashes in 1 paths of {b / 't.csv'} are taken for slashes" in task.notes


def test_a_path_that_is_there_twice(tmp_path: Path) -> None:
    names = files(tmp_path, 8)
    path = write(tmp_path / "t.csv", {"image": [*names, "x/../0.png"], "label": [*PETS, "cat"]})
    (tmp_path / "x").mkdir()
    task = load_task(path, val=0)
    assert len(task.train) + len(task.test) == 8
    assert "left out: 1 rows that name an image again, with the same label" in task.notes
    write(path, {"image": [*names, "./0.png"], "label": [*PETS, "dog"]})
    assert message(path) == (
        f"row 0 (from 0) of {path} and row 8 (from 0) of {path} give '0.png' the labels 'cat' and 'dog': each image needs one"
    )


@pytest.mark.parametrize("address", ["https://x.org/0.png", "s3://bucket/0.png", "file:///0.png"])
@pytest.mark.parametrize("suffix", WRITERS)
def test_addresses_are_refused(tmp_path: Path, address: str, suffix: str) -> None:
    names = files(tmp_path, 7)
    path = write(tmp_path / f"t{suffix}", {"image": [*names, address], "label": PETS})
    assert message(path).startswith(
        f"row 7 (from 0) of {path} holds the address '{address}': images are read from files"
    )


def test_addresses_in_a_column_of_images_are_refused(tmp_path: Path) -> None:
    structs = [{"bytes": None, "path": "https://x.org/0.png"}] * 8
    write(tmp_path / "t.parquet", {"image": structs, "label": PETS})
    assert "(it is an address, and images are read from files)" in message(tmp_path / "t.parquet")


def test_a_path_that_no_system_takes_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", {"image": [*files(tmp_path, 7), "x" * 5000], "label": PETS})
    assert "1 of the 8 images that" in message(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_missing_files_are_counted(tmp_path: Path, suffix: str) -> None:
    names = files(tmp_path / "images", 6)
    path = write(tmp_path / f"t{suffix}", {"image": [*(f"images/{n}" for n in names), "0.png", "x.png"], "label": PETS})
    assert message(path) == (
        f"2 of the 8 images that {path} names are not there (such as '0.png', 'x.png'; there is "
        f"'{tmp_path / 'images' / '0.png'}'): add them, correct the paths, which are relative to {tmp_path}, or "
        "remove the rows"
    )


@pytest.mark.parametrize("cell", ["", " "])
def test_empty_cells(tmp_path: Path, cell: str) -> None:
    names = files(tmp_path, 8)
    path = write(tmp_path / "t.csv", {"image": [*names[:7], cell], "label": PETS})
    assert message(path) == f"row 7 (from 0) of {path} names no image: give it one, or remove the row"
    write(path, {"image": names, "label": [*PETS[:7], cell]})
    assert message(path) == f"row 7 (from 0) of {path} has no label: give it one, or remove the row"


def test_a_table_of_no_rows(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"image": files(tmp_path, 8), "label": PETS})
    empty = write(tmp_path / "test.csv", {"image": [], "label": []})
    for data in (tmp_path, empty):
        assert message(data) == f"{empty} is empty: add images to it, or remove it"


def test_a_test_split_without_labels_is_not_used(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"image": files(tmp_path, 8), "label": PETS})
    write(tmp_path / "test.csv", {"image": files(tmp_path, 4, 20), "label": [""] * 4})
    assert "the labels of the test split are empty: it is not used" in load_task(tmp_path, val=0).notes
    write(tmp_path / "test.csv", {"image": files(tmp_path, 4, 20)})
    task = load_task(tmp_path, val=0)
    assert "test.csv has no column of labels: it is not used" in task.notes
    assert set(found(task)) == set(range(8))


@pytest.mark.parametrize(
    ("columns", "arguments", "said"),
    [
        ({"image": "i", "path": "i", "label": "l"}, {}, "several columns may be the image column, 'image', 'path': say which"),
        ({"image": "i", "class": "l", "category": "n"}, {}, "several columns may be the label column, 'class', 'category'"),
        ({"picture": "i", "label": "l"}, {}, "no image column found (columns: picture, label): say which it is with"),
        ({"image": "i", "kind": "l"}, {}, "no label column found (columns: image, kind): say which it is with"),
        ({"image": "i", "label": "l"}, {"label_column": "labels"}, "there is no column 'labels' (columns: image, label)"),
    ],
)  # fmt: skip
def test_columns_that_leave_doubt_are_refused(
    tmp_path: Path, columns: dict[str, str], arguments: dict[str, str], said: str
) -> None:
    kinds: dict[str, Sequence[object]] = {
        "i": files(tmp_path, 8), "l": PETS, "n": [0, 1, 2, 0, 1, 2, 0, 1], "s": ["train"] * 7 + ["holdout"],
        "t": ["train", "test"] * 4, "u": ["train"] * 4 + ["test"] * 4,
    }  # fmt: skip
    path = write(tmp_path / "t.csv", {name: kinds[kind] for name, kind in columns.items()})
    assert said in message(path, **arguments)


def test_a_number_and_a_name_that_say_the_same(tmp_path: Path) -> None:
    numbers = [{"cat": 1, "dog": 0}[name] for name in PETS]
    path = write(tmp_path / "t.csv", {"image": files(tmp_path, 8), "label": numbers, "class_name": PETS})
    assert load_task(path, val=0).class_names == ("cat", "dog")
    write(path, {"image": files(tmp_path, 8), "label": numbers, "class_name": [*PETS[:7], "cat"]})
    assert load_task(path, val=0).class_names == ("0", "1")  # the usual name, as they do not


def test_a_name_and_a_column_that_deny_each_other(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", {"image": files(tmp_path, 8), "label": PETS, "split": ["test"] * 8})
    write(tmp_path / "test.csv", {"image": files(tmp_path, 4, 20), "label": PETS[:4]})
    assert "train.csv is called as train is, and its column 'split' says test: rename one of them" in message(tmp_path)


def test_classes_of_parquet_are_called_by_their_names(tmp_path: Path) -> None:
    import datasets

    for split, order, first, count in (("train", ["dog", "cat"], 0, 8), ("test", ["cat", "dog"], 20, 4)):
        features = datasets.Features({"image": datasets.Value("string"), "label": datasets.ClassLabel(names=order)})
        rows = {"image": files(tmp_path, count, first), "label": [order.index(name) for name in PETS[:count]]}
        pq.write_table(pa.table(rows, schema=features.arrow_schema), tmp_path / f"{split}.parquet")
    task = load_task(tmp_path, val=0)
    assert found(task) == {i: ("train", PETS[i]) for i in range(8)} | {20 + i: ("test", PETS[i]) for i in range(4)}


def test_a_table_is_streamed_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "t.csv", {"image": files(tmp_path, 8), "label": PETS})
    at_once = load_task(path, val=0)
    monkeypatch.setattr("robust_transfer.data.split.MEMORY_LIMIT", 0)
    streamed = load_task(path, val=0)
    assert (at_once.train.streamed, streamed.train.streamed) == (False, True)
    assert found(streamed) == found(at_once)
    assert streamed.train.hash == at_once.train.hash


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("packed", [False, True])
def test_images_are_told_by_their_content_where_a_table_names_them(tmp_path: Path, suffix: str, packed: bool) -> None:
    """Whatever they are called: without an extension, with another format's, with one of no image, hidden."""
    root = tmp_path / "set"
    names = ["0000", "1.jpg", "2.PNG.bin", "3.tiff", ".4", "5.dat", "6", "7.txt"]
    formats = ["PNG", "PNG", "BMP", "PNG", "PPM", "PNG", "TIFF", "PNG"]
    (root / "images").mkdir(parents=True)
    for i, (name, fmt) in enumerate(zip([*names, "8", "9.dat"], [*formats, "BMP", "PNG"], strict=True)):
        (root / "images" / name).write_bytes(encoded(picture(0, i), fmt))
    (root / "images" / "0.zip").write_text("no image")
    write(root / f"t{suffix}", {"image": [f"images/{name}" for name in names], "label": PETS})
    task = load_task(pack(tmp_path / "set.tar", contents(root)) if packed else root, val=0)
    assert {i: name for i, (_, name) in found(task).items()} == dict(enumerate(PETS))
    hint = "give it such an extension, or name it in a table"
    assert [note for note in task.notes if note.startswith("left out")] == [
        f"left out: 1 files with the extension .dat (such as '9.dat', which holds a PNG image: {hint})",
        "left out: 1 files with the extension .zip (such as '0.zip')",
        f"left out: 1 files without an extension (such as '8', which holds a BMP image: {hint})",
    ]
