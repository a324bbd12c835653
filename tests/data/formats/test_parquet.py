"""Parquet files: shards and splits whose classes are listed otherwise, and names that are no split's."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from images import encoded, picture, write_parquet

from robust_transfer.data import load_task
from robust_transfer.errors import DataError

NAMES = ["ant", "bee", "cat"]


def written(path: Path, truth: list[int], order: list[str] | None, start: int) -> Path:
    """Row i is ``picture(class, start + i)``; its label is the class's place in ``order`` (None: its number in NAMES)."""
    labels = [order.index(NAMES[c]) if order else c for c in truth]
    return write_parquet(
        path, labels, names=order, contents=[encoded(picture(c, start + i)) for i, c in enumerate(truth)]
    )


def assert_true_labels(folder: Path, truths: dict[str, list[int]]) -> tuple[str, ...]:
    """Each image's class, found again by its pixels; returns the notes."""
    task = load_task(folder, val=0)
    for part in (task.train, task.test):
        for image, label in zip(part.images(), part.labels.tolist(), strict=True):
            pixels = image.permute(1, 2, 0).numpy()
            [true] = {c for c in range(3) for i in range(60) if np.array_equal(pixels, picture(c, i))}
            assert task.class_names[label] == NAMES[true]
    assert [len(task.train), len(task.test)] == [len(truths["train"]), len(truths["test"])]
    return task.notes


@pytest.mark.parametrize("second", [["bee", "ant", "cat"], ["cat", "ant", "bee"], NAMES])
@pytest.mark.parametrize("test", [["cat", "bee", "ant"], NAMES])
def test_shards_and_splits_are_matched_by_name(tmp_path: Path, second: list[str], test: list[str]) -> None:
    one, two, three = [0, 1, 2, 0, 1, 2], [0, 0, 1, 1, 2, 2], [2, 1, 0]
    written(tmp_path / "train-00000-of-00002.parquet", one, NAMES, 0)
    written(tmp_path / "train-00001-of-00002.parquet", two, second, 20)
    written(tmp_path / "test-00000-of-00001.parquet", three, test, 40)
    notes = assert_true_labels(tmp_path, {"train": one + two, "test": three})
    assert sum("matched by name" in note for note in notes) == (second != NAMES) + (test != NAMES)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (
            ["ant", "bee", "cow"],
            r"only in train-00000-of-00002\.parquet 'cat'; only in train-00001-of-00002\.parquet 'cow'",
        ),
        (["ant", "bee"], r"only in train-00000-of-00002\.parquet 'cat'"),
        (["ant", "bee", "Cat"], "differ only in upper and lower case"),
    ],
)
def test_shards_of_other_names_are_refused(tmp_path: Path, order: list[str], said: str) -> None:
    written(tmp_path / "train-00000-of-00002.parquet", [0, 1, 2], NAMES, 0)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [0, 1], names=order)
    with pytest.raises(DataError, match=said):
        load_task(tmp_path)


def test_a_shard_without_names_beside_one_with_names_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "train-00000-of-00002.parquet", [0, 1, 2], NAMES, 0)
    written(tmp_path / "train-00001-of-00002.parquet", [0, 1, 2], None, 10)
    with pytest.raises(DataError, match=r"names its classes and train-00001-of-00002\.parquet does not"):
        load_task(tmp_path)


def test_a_split_of_bare_numbers_beside_names_is_said(tmp_path: Path) -> None:
    written(tmp_path / "train.parquet", [0, 1, 2] * 2, NAMES, 0)
    written(tmp_path / "test.parquet", [2, 1], None, 40)
    notes = assert_true_labels(tmp_path, {"train": [0, 1, 2] * 2, "test": [2, 1]})
    assert any("numbers without names" in note for note in notes)


@pytest.mark.parametrize(
    "extra",
    [
        "train_mini-00000-of-00001",
        "test_corrupted",
        "pre-train-00000-of-00001",
        "train-00000-of-00001 (1)",
        "unsupervised",
    ],
)
def test_files_that_are_no_splits_are_left_out_and_said(tmp_path: Path, extra: str) -> None:
    for name, n in (("train-00000-of-00001", 12), ("test-00000-of-00001", 6), (extra, 9)):
        write_parquet(tmp_path / f"{name}.parquet", [i % 3 for i in range(n)], names=NAMES)
    task = load_task(tmp_path, val=0)
    assert (len(task.train), len(task.test)) == (12, 6)
    assert [note for note in task.notes if "left out" in note] == [
        f"1 parquet file left out, as the name is not a split's, or in another folder: '{extra}.parquet'"
    ]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["train-00000-of-00002", "train-00000-of-00002-a09b74b3ef9c3b56"], "are both the same part of train"),
        (["train-00000-of-00002", "train-00000-of-00003"], "count to different totals"),
        (["train", "train-00000-of-00002"], "may hold the same images"),
        (["cats_train", "dogs_train"], "files of several data sets, 'cats', 'dogs'"),
        (["train_mini", "extra"], "cannot tell which split 'train_mini.parquet' belongs to"),
    ],
)
def test_files_that_leave_doubt_are_refused(tmp_path: Path, files: list[str], said: str) -> None:
    for name in files:
        write_parquet(tmp_path / f"{name}.parquet", [0, 1, 2] * 2, names=NAMES)
    with pytest.raises(DataError, match=said):
        load_task(tmp_path)


def test_files_that_name_no_split_are_train_and_said(tmp_path: Path) -> None:
    for name in ("0000", "0001"):
        write_parquet(tmp_path / f"{name}.parquet", [0, 1, 2] * 3, names=NAMES)
    task = load_task(tmp_path, val=0)
    assert len(task.train) + len(task.test) == 18
    assert "all 2 files, whose names are no splits', are taken as train: '0000.parquet', '0001.parquet'" in task.notes


def test_a_file_whose_name_denies_its_folders_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train" / "train-0.parquet", [0, 1] * 4)
    write_parquet(tmp_path / "train" / "test-0.parquet", [0, 1] * 4)
    with pytest.raises(DataError, match=r"test-0.parquet is called as test is, in a folder of train"):
        load_task(tmp_path)


@pytest.mark.parametrize("layout", ["default/{}/0000.parquet", "set/{}-00000-of-00001.parquet", "{}.parquet/part-0.parquet",
                                    "{}.PARQUET"])  # fmt: skip
def test_layouts_of_the_hub_and_of_other_writers(tmp_path: Path, layout: str) -> None:
    for start, (split, count) in enumerate((("train", 8), ("test", 4))):
        contents = [encoded(picture(start, i)) for i in range(count)]
        write_parquet(tmp_path / layout.format(split), [0, 1] * (count // 2), contents=contents)
    task = load_task(tmp_path, val=0)
    assert (len(task.train), len(task.test)) == (8, 4)
    write_parquet(tmp_path / "other" / "train" / "0.parquet", [0, 1] * 4)
    if "/" in layout and "{}." not in layout:
        with pytest.raises(DataError, match="data sets in folders of their own: give one of them"):
            load_task(tmp_path)


def test_what_lies_beside_parquet_files_is_said(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 4)
    write_parquet(tmp_path / "train-2.parquet", [0, 1] * 4, contents=[encoded(picture(2, i)) for i in range(8)])
    write_parquet(tmp_path / "more" / "deep" / "down" / "x.parquet", [0, 1])
    (tmp_path / "test.csv").write_text("x")
    (tmp_path / "._train-1.parquet").write_bytes(b"x")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "0.png").write_bytes(encoded(picture(3, 0)))
    notes = load_task(tmp_path, val=0).notes
    assert list(notes[:5]) == [
        "only 2 of the 3 train files are there: the others' images are not in the task",
        "left out: 1 parquet files in other folders",
        "1 image files beside the parquet files count only where a row names them (such as 'test/0.png')",
        "left out: 1 files with the extension .csv (such as 'test.csv')",
        "left out: 1 hidden files, and resource forks (such as '._train-1.parquet')",
    ]


def test_a_file_given_alone_says_what_it_is_and_what_is_not_read(tmp_path: Path) -> None:
    alone = write_parquet(tmp_path / "test-00000-of-00002.parquet", [0, 1] * 4)
    write_parquet(tmp_path / "train.parquet", [0, 1] * 4)
    notes = load_task(alone, val=0).notes
    assert list(notes[:3]) == [
        "test-00000-of-00002.parquet is called as test is: given alone, it is taken as train",
        "test-00000-of-00002.parquet alone is read, not what lies beside it: 'train.parquet'",
        "only 1 of the 2 test files are there: the others' images are not in the task",
    ]


@pytest.mark.parametrize(
    ("other", "kind"), [("cat ", "spaces"), ("Cat", "upper and lower case"), ("cat\u200b", "invisible characters")]
)
def test_a_label_that_only_looks_like_a_class_is_told_apart(tmp_path: Path, other: str, kind: str) -> None:
    write_parquet(tmp_path / "train.parquet", ["cat", "dog"] * 4)
    write_parquet(tmp_path / "test.parquet", [other, "dog"] * 2)
    with pytest.raises(DataError, match=f"differ only in {kind}"):
        load_task(tmp_path)


@pytest.mark.parametrize("limit", [None, 0])
def test_a_column_says_the_splits_of_a_file_whose_name_does_not(
    tmp_path: Path, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit is not None:
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("robust_transfer.data.split.MEMORY_LIMIT", limit)
    truth, said = [0, 1, 2] * 4, ["train", "train", "TEST", "test"] * 3
    contents = [encoded(picture(c, i)) for i, c in enumerate(truth)]
    write_parquet(tmp_path / "set" / "all.parquet", truth, contents=contents, extra={"split": said})
    task = load_task(tmp_path / "set", val=0)
    assert task.notes == ()
    for part, role in ((task.train, "train"), (task.test, "test")):
        rows = [i for i, name in enumerate(said) if name.lower() == role]
        assert part.labels.tolist() == [truth[row] for row in rows]
        for image, row in zip(part.images(), rows, strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), picture(truth[row], row))
    contents[7] = b"x"
    path = write_parquet(tmp_path / "set" / "all.parquet", truth, contents=contents, extra={"split": said})
    with pytest.raises(DataError, match=r"cannot decode the image in row 7 \(from 0\) of all.parquet"):
        load_task(path, val=0)
    write_parquet(path, truth, extra={"split": ["train"] * 11 + ["other"]})
    with pytest.raises(DataError, match=r"says 'other' in 1 rows, which no known split is called"):
        load_task(path, val=0)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (
            b'{"info": {"features": {"label": {"num_classes": 1000000000, "_type": "ClassLabel"}}}}',
            "1,000,000,000 classes",
        ),
    ],
)
def test_a_schema_that_unfolds_is_refused(tmp_path: Path, stated: bytes, words: str) -> None:
    path = write_parquet(tmp_path / "train.parquet", [0, 1, 0, 1])
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"huggingface": stated}), path)
    with pytest.raises(DataError, match=words):
        load_task(tmp_path)
