"""Every kind of bad data is told in one clear sentence that says what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import QUIET, make_source
from images import encoded, picture, write_classes, write_parquet

from robust_transfer.data import FORMATS, load_task
from robust_transfer.errors import DataError
from robust_transfer.pretraining import Fast
from robust_transfer.strategies import LinearProbe, transfer

NAMES = ["cat", "dog"]


def message(data: str | Path, **arguments: Any) -> str:
    with pytest.raises(DataError) as error:
        load_task(data, **arguments)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def test_a_home_that_does_not_exist() -> None:
    assert "'~nosuchuser/x' does not exist" in message("~nosuchuser/x")


def test_a_class_name_that_is_not_utf8(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    (tmp_path / "train" / "cat").rename(tmp_path / "train" / os.fsdecode(b"caf\xe9"))
    assert "is not UTF-8: rename it" in message(tmp_path)


@pytest.mark.parametrize(
    "metadata", [None, {"huggingface": '{"info": {"features": {"image": {"_type": "Hologram"}}}}'}]
)
def test_columns_that_datasets_does_not_know(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = write_parquet(tmp_path / "train.parquet", [0, 1] * 3, names=NAMES)
    table = pq.read_table(path)
    if metadata is None:
        maps = pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int64()))
        table = table.append_column("more", maps)
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert "`datasets` cannot read" in message(tmp_path)


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    assert message(tmp_path / "cifar_10").endswith(f"does not exist: did you mean '{tmp_path / 'cifar10'}'?")
    for nowhere in (tmp_path / "zzz", tmp_path / "no" / "such"):
        text = message(nowhere)
        assert all(entry.name in text for entry in FORMATS)


def test_a_prefix_or_name_with_a_slip() -> None:
    assert "did you mean 'builtin:digits'?" in message("buildin:digits")
    assert message("builtin:digit") == "unknown data set 'builtin:digit': did you mean 'builtin:digits'?"
    assert "builtin:digits" in message("builtin:xyz")


def test_a_file_that_is_no_data_set(tmp_path: Path) -> None:
    for name in ("images.7z", "images.rar", "labels.txt", "labels.json", "images"):
        (tmp_path / name).write_bytes(b"PK")
        assert "is a single file of no known format: give a folder of images" in message(tmp_path / name)


def test_folders_without_data(tmp_path: Path) -> None:
    assert "no parquet files and no class folders of images found in" in message(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    assert "no parquet files and no class folders of images found in" in message(tmp_path)


def test_images_in_no_class_folder(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(encoded(picture(0, 0)))
    assert "are in no class folders: put each class's in a folder of its own" in message(tmp_path)


@pytest.mark.parametrize("with_images", [True, False])
def test_a_split_without_class_folders(tmp_path: Path, with_images: bool) -> None:
    write_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    (tmp_path / "test").mkdir()
    if with_images:
        (tmp_path / "test" / "one.png").write_bytes(encoded(picture(0, 0)))
    assert "test has no class folders: put its images in test/<class>/" in message(tmp_path)


def test_flat_splits_are_not_taken_for_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, {"train": 3, "test": 3})
    assert "put its images in test/<class>/" in message(tmp_path)


def test_an_empty_class_folder(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 3, "dog": 3, "eel": 0})
    assert "eel holds no images: add some, or remove the folder" in message(tmp_path)


def test_a_split_given_twice(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        write_classes(tmp_path / name, {"cat": 3, "dog": 3})
    assert "are both validation splits: rename or remove one of them" in message(tmp_path)


def test_no_train_split(tmp_path: Path) -> None:
    write_classes(tmp_path / "folder" / "test", {"cat": 3, "dog": 3})
    write_parquet(tmp_path / "parquet" / "test.parquet", [0, 1], names=NAMES)
    for name in ("folder", "parquet"):
        task = load_task(tmp_path / name)
        with pytest.raises(
            DataError, match=f"{name} has no training images, only [26] of test: there is nothing to learn"
        ):
            transfer(make_source(), task, LinearProbe(), run=QUIET)
        with pytest.raises(
            DataError, match=f"{name} has no training images, only [26] of test: there is nothing to learn"
        ):
            Fast()(task, run=QUIET)
        with pytest.raises(DataError, match="no train split to draw shots or val from: leave shots and val out"):
            load_task(tmp_path / name, shots=1)


def test_different_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    write_classes(tmp_path / "test", {"cat": 3, "cow": 3})
    assert "train and test have different classes (only in train 'dog'; only in test 'cow')" in message(tmp_path)


def test_a_class_that_only_test_has(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["cat", "dog"] * 3)
    write_parquet(tmp_path / "test.parquet", ["cat", "cow"])
    assert message(tmp_path).startswith(
        "row 1 (from 0) of the test split is of the class 'cow', which train does not have"
    )
    write_parquet(tmp_path / "test.parquet", [0, 1])
    assert "the labels of the test split are of type int64, those of train of type string: store them alike" in message(
        tmp_path
    )


def test_one_class_only(tmp_path: Path) -> None:
    write_classes(tmp_path / "pets", {"cat": 3})
    assert message(tmp_path / "pets") == "pets has one class only, 'cat': a task needs at least 2"
    write_parquet(tmp_path / "train.parquet", [5, 5, 5])
    assert "has one class only, '5'" in message(tmp_path / "train.parquet")


def test_a_class_without_images(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "train.parquet", [0, 1] * 3, names=[*NAMES, "eel"])
    assert message(path) == "the class 'eel' has no images in the train split: add some, or remove the class"


def test_a_class_with_one_image(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 3, "dog": 1})
    assert message(tmp_path / "train").endswith("can be set aside for testing: add images or a test split")
    write_classes(tmp_path / "test", {"cat": 3, "dog": 1})
    task = load_task(tmp_path, val=0.4)
    assert "a class has one image only, which stays in train: val has none of 'dog'" in task.notes
    assert (task.train.labels == 1).sum() == 1
    assert task.val.labels.unique().tolist() == [0]
    assert not any("one image" in note for note in load_task(tmp_path, val=0).notes)


def test_too_few_images_for_the_shots(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 6, "dog": 1})
    write_classes(tmp_path / "test", {"cat": 3, "dog": 1})
    assert (
        message(tmp_path, shots=4)
        == "the class 'dog' has 1 different image in train, fewer than shots=4: ask for fewer"
    )


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (
            [0, 1, 2, 1],
            NAMES,
            "row 2 (from 0) of the train split has the label 2, but there are 2 classes (0 to 1): correct",
        ),
        ([0, 1, -1, 1], NAMES, "row 2 (from 0) of the train split has the label -1: a negative label marks"),
        ([0, 1, -7, 1], None, "row 2 (from 0) of the train split has the label -7: a negative label marks"),
        (
            np.array([0, 1, 2**64 - 1], np.uint64),
            None,
            "the train split has the label 18446744073709551615: class numbers",
        ),
        ([0, None, 1, 1], None, "row 1 (from 0) of the train split has no label: give it one, or remove the row"),
        (["cat", "dog", None], None, "row 2 (from 0) of the train split has no label: give it one, or remove the row"),
        ([0.5, 1.0], None, "the labels of the train split are of type double: each image needs one label"),
        ([[0, 1], [1]], None, "the labels of the train split are of type list<element: int64>: each image needs one"),
    ],
)
def test_bad_labels(tmp_path: Path, labels: list[Any], names: list[str] | None, expected: str) -> None:
    assert message(write_parquet(tmp_path / "train.parquet", labels, names=names)).startswith(expected)


def test_empty_splits(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1] * 3, names=NAMES)
    write_parquet(tmp_path / "test.parquet", pa.array([], pa.int64()), names=NAMES)
    assert message(tmp_path) == "the test split is empty: add images to it, or remove it"
    assert message(tmp_path / "test.parquet") == "the train split is empty: add images to it, or remove it"


def test_no_image_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "train.parquet")
    path = tmp_path / "train.parquet"
    assert "no image column found (columns: text, label): say which it is with image_column" in message(path)
    assert "the column 'label' does not hold images" in message(path, image_column="label")
    assert "there is no column 'txet' (columns: text, label): did you mean 'text'?" in message(
        path, image_column="txet"
    )


def test_no_label_column(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "train.parquet", [0, 1], label="kind")
    assert "no label column found (columns: image, kind): say which it is with label_column" in message(path)
    assert "(columns: image, kind): did you mean 'kind'?" in message(path, label_column="kin")


def test_several_candidates(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "train.parquet", [0, 1], label="fine_label", extra={"coarse_label": [0, 0]})
    text = message(path)
    assert "several columns may be the label column, 'fine_label', 'coarse_label': say which with label_column" in text
    pq.write_table(pa.table({"left": [b"a"], "right": [b"b"], "label": [0]}), path)
    assert "several columns may be the image column, 'left', 'right': say which with image_column" in message(path)


def test_files_with_different_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [0, 1])
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [0, 1], label="kind")
    assert "train-00001-of-00002.parquet lacks the column 'label', which train-00000-of-00002" in message(tmp_path)
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    write_parquet(tmp_path / "test.parquet", [0, 1], label="kind")
    assert "test.parquet: there is no column 'label' (columns: image, kind)" in message(tmp_path)


def test_columns_of_a_folder_of_images(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 3, "dog": 3})
    assert message(tmp_path, label_column="label").endswith("has no columns: leave label_column out")
    assert "has no columns: leave image_column and split_column out" in message(
        "builtin:digits", image_column="image", split_column="split"
    )


def test_several_data_sets_in_one_folder(tmp_path: Path) -> None:
    write_parquet(tmp_path / "fine" / "train.parquet", [0, 1])
    write_parquet(tmp_path / "coarse" / "train.parquet", [0, 1])
    assert f"give one of them, '{tmp_path / 'coarse'}', '{tmp_path / 'fine'}'" in message(tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 200, -100, -9])
def test_truncated_parquet(tmp_path: Path, keep: int) -> None:
    path = write_parquet(tmp_path / "train.parquet", [0, 1] * 20, names=NAMES)
    path.write_bytes(path.read_bytes()[:keep])
    text = message(path)
    assert text.startswith(f"cannot read {path}, it is damaged or no parquet file (")
    assert text.endswith("): download or write it again")


def test_parquet_damaged_in_the_middle(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "train.parquet", [0, 1] * 200, names=NAMES)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    assert "cannot read" in message(path)


def test_images_that_cannot_be_decoded(tmp_path: Path) -> None:
    good = encoded(picture(0, 0, 32))
    bad: dict[str, bytes | None] = {
        "not an image of a known format": b"hello",
        "truncated": good[:-300],
        "the row holds none": None,
    }
    for reason, content in bad.items():
        path = write_parquet(tmp_path / "train.parquet", [0, 1] * 3, names=NAMES, contents=[good] * 4 + [content, good])
        text = message(path)
        assert text.startswith("cannot decode the image in row 4 (from 0) of the train split (")
        assert reason in text
        assert text.endswith("): repair it, or remove it from the data")


def test_a_file_that_cannot_be_decoded(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 3, "dog": 3})
    path = tmp_path / "dog" / "001.png"
    path.write_bytes(b"")
    assert message(tmp_path).startswith(f"cannot decode {path} (not an image of a known format): repair it")


def test_a_bad_image_among_different_sizes_is_told(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 2, "dog": 2})
    write_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    (tmp_path / "train" / "cat" / "000.png").write_bytes(encoded(picture(0, 0, 9)))
    (tmp_path / "train" / "dog" / "001.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"cannot decode .*dog/001\.png"):
        load_task(tmp_path, val=0)


@pytest.mark.parametrize("name", ["cifar10", "a/b/c", "", "/", "a/b:c/d", "a/b@", "a/b@c:d", "a/b@c@d"])
def test_names_that_are_not_the_hubs(name: str) -> None:
    assert message(f"hf:{name}").endswith("does not name a data set: write hf:OWNER/NAME[:CONFIG][@REVISION]")
