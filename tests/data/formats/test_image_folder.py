"""Image folders as public data sets and real disks have them; the right counts are known from how they were made."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from images import encoded, picture, write_classes

from robust_transfer.data import Task, load_task
from robust_transfer.errors import DataError

PETS = {"cat": 4, "dog": 4}


def sizes(task: Task) -> tuple[int, int]:
    return len(task.train) + len(task.val), len(task.test)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("seg_train", "seg_test"),
        ("training_set", "test_set"),
        ("train_images", "test_images"),
        ("Train", "TEST"),
        ("train2017", "val2017"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("photos/train", "photos/test"),
    ],
)
def test_splits_by_the_names_of_public_sets(tmp_path: Path, train: str, test: str) -> None:
    write_classes(tmp_path / train, PETS)
    write_classes(tmp_path / test, {"cat": 3, "dog": 3})
    task = load_task(tmp_path)
    assert task.class_names == ("cat", "dog")
    assert sizes(task) == (8, 6)


@pytest.mark.parametrize("other", ["eval", "holdout", "train_mini", "extra"])
def test_a_folder_of_images_beside_the_splits_is_never_passed_over(tmp_path: Path, other: str) -> None:
    write_classes(tmp_path / "train", PETS)
    write_classes(tmp_path / other, PETS)
    with pytest.raises(DataError, match=f"'train' and also '{other}', which no known split is called"):
        load_task(tmp_path)


def test_splits_within_classes_are_merged_and_said(tmp_path: Path) -> None:
    for name in PETS:
        write_classes(tmp_path / name, {"train": 5, "test": 2})
    task = load_task(tmp_path, val=0)
    assert task.class_names == ("cat", "dog")
    assert sizes(task) == (10, 4)
    assert any("hold splits each" in note for note in task.notes)


@pytest.mark.parametrize("above", ["", "train/"])
def test_domains_of_public_sets_are_merged_and_said(tmp_path: Path, above: str) -> None:
    for domain in ("art_painting", "sketch", "photo"):
        write_classes(tmp_path / f"{above}{domain}", PETS)
    task = load_task(tmp_path, val=0)
    assert task.class_names == ("cat", "dog")
    assert sum(sizes(task)) == 3 * 8
    assert any("domains" in note for note in task.notes)


def test_two_levels_that_look_alike_are_refused(tmp_path: Path) -> None:
    for hospital in ("north", "south"):
        write_classes(tmp_path / hospital, {"benign": 3, "malignant": 3})
    with pytest.raises(DataError, match="either level could be the classes"):
        load_task(tmp_path)


def test_folders_under_a_class_are_the_classs_and_said(tmp_path: Path) -> None:
    write_classes(tmp_path / "train" / "cat", {"siamese": 3, "persian": 2})
    write_classes(tmp_path / "train" / "dog", {"poodle": 4})
    write_classes(tmp_path / "test", PETS)
    task = load_task(tmp_path, val=0)
    assert torch.bincount(task.train.labels).tolist() == [5, 4]
    assert any("folders under a class, such as cat/persian" in note for note in task.notes)


def test_links_are_followed_once(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", PETS)
    write_classes(tmp_path / "test", PETS)
    write_classes(tmp_path / "elsewhere", {"more": 3})
    os.symlink(".", tmp_path / "train" / "cat" / "again")
    os.symlink("../..", tmp_path / "train" / "cat" / "up")
    os.symlink(tmp_path / "elsewhere" / "more", tmp_path / "train" / "dog" / "one")
    os.symlink(tmp_path / "elsewhere" / "more", tmp_path / "train" / "dog" / "two")
    (tmp_path / "train" / "cat" / "up").unlink()
    (tmp_path / "elsewhere").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    for name in ("one", "two"):
        (tmp_path / "train" / "dog" / name).unlink()
        os.symlink(tmp_path.parent / f"{tmp_path.name}-elsewhere" / "more", tmp_path / "train" / "dog" / name)
    task = load_task(tmp_path, val=0)
    assert torch.bincount(task.train.labels).tolist() == [4, 7]
    assert any("left out: 2 links to folders that are read already" in note for note in task.notes)


def test_what_is_left_out_is_counted_by_kind(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", PETS)
    write_classes(tmp_path / "test", PETS)
    cat = tmp_path / "train" / "cat"
    (cat / "notes.txt").write_text("x")
    (cat / "a.HEIC").write_bytes(b"x")
    (cat / "b.heic").write_bytes(b"x")
    (cat / "._000.png").write_bytes(b"resource fork")
    (cat / "raw").write_bytes(b"x")
    (cat / "Thumbs.db").write_bytes(b"x")
    os.symlink("/nowhere/annex", cat / "lost.png")
    write_classes(cat / "@eaDir", {"000.png": 2})
    write_classes(cat / ".thumbnails", {"large": 2})
    task = load_task(tmp_path, val=0)
    assert torch.bincount(task.train.labels).tolist() == [4, 4]
    expected = {
        "1 files with the extension .txt": "notes.txt",
        "2 files with the extension .heic": "a.HEIC",
        "1 hidden files, and resource forks": "._000.png",
        "1 files without an extension": "raw",
        "1 files of systems and programs": "Thumbs.db",
        "1 links that lead nowhere": "lost.png",
        "2 hidden folders, and thumbnails of systems and programs": ".thumbnails",
    }
    left = {note for note in task.notes if note.startswith("left out")}
    assert left == {f"left out: {what} (such as {example!r})" for what, example in expected.items()}


def test_images_in_no_class_folder_are_counted(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", PETS)
    write_classes(tmp_path / "test", PETS)
    for i in range(2):
        (tmp_path / "train" / f"stray{i}.png").write_bytes(encoded(picture(9, i)))
    assert any("2 images that are in no class folder" in note for note in load_task(tmp_path).notes)


@pytest.mark.parametrize("extension", [".jfif", ".jpe", ".JPG", ".apng", ".tif", ".webp"])
def test_every_extension_of_a_format_that_is_decoded(tmp_path: Path, extension: str) -> None:
    fmt = {".apng": "PNG", ".tif": "TIFF", ".webp": "WEBP"}.get(extension, "JPEG")
    write_classes(tmp_path / "train", PETS)
    write_classes(tmp_path / "test", PETS)
    (tmp_path / "train" / "dog" / f"x{extension}").write_bytes(encoded(picture(1, 9), fmt))
    assert len(load_task(tmp_path, val=0).train) == 9


@pytest.mark.parametrize("name", ["a [1]", "b*", "c?", "d {x}", "e~", "f #1"])
def test_any_name_of_a_folder(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path / name / "train", PETS)
    write_classes(tmp_path / name / "test", PETS)
    assert sizes(load_task(tmp_path / name)) == (8, 8)


@pytest.mark.parametrize(
    "beside", [{"train": 4, "test1": 4}, {"train_64x64": 4, "valid_64x64": 4}, {"trainA": 4, "testB": 4},
               {"cat_train": 4, "cat_test": 4, "dog_train": 3}, {"images_background": 4, "images_evaluation": 4},
               {"fold1": 4, "fold2": 4}, {"train": 4, "holdout": 4}],
)  # fmt: skip
def test_parts_of_a_data_set_are_no_classes(tmp_path: Path, beside: dict[str, int]) -> None:
    write_classes(tmp_path, beside)
    with pytest.raises(DataError, match="called as parts of a data set are, not as classes"):
        load_task(tmp_path)


def test_a_class_that_is_called_train_is_one_and_said(tmp_path: Path) -> None:
    write_classes(tmp_path, {"train": 4, "ship": 4})
    task = load_task(tmp_path, val=0)
    assert task.class_names == ("ship", "train")
    assert "'train' in" in task.notes[0]
    assert "is taken for a class" in task.notes[0]


@pytest.mark.parametrize(
    "folders",
    [
        {"cat": {"train": 3, "test": 3}, "dog": {"train": 3, "test": 3}, "bird": {".": 3}},
        {"cat": {"train": 3, "test": 3, "ground_truth": 3}, "dog": {"train": 3, "test": 3}},
        {"data": {"train/cat": 3, "test/cat": 3}, "assets": {".": 2}},
        {"train/cat": {".": 4}, "train/dog": {".": 4}, "train/test": {"cat": 3, "dog": 3}},
    ],
)
def test_splits_below_some_of_the_classes_are_not_poured_into_them(
    tmp_path: Path, folders: dict[str, dict[str, int]]
) -> None:
    for folder, inner in folders.items():
        for name, count in inner.items():
            (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                (tmp_path / folder / name / f"{i}.png").write_bytes(encoded(picture(0, i)))
    with pytest.raises(DataError, match=r"called as (splits are|a split is)"):
        load_task(tmp_path)


def test_two_levels_of_which_one_lacks_a_folder_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "day", {"cat": 3, "dog": 3})
    write_classes(tmp_path / "night", {"cat": 3, "dog": 3, "bat": 3})
    with pytest.raises(DataError, match="'cat', 'dog': either level could be the classes"):
        load_task(tmp_path)


@pytest.mark.parametrize("above", ["train", "archive/set/train", "photo/train"])
def test_loose_images_above_the_classes_are_counted(tmp_path: Path, above: str) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / Path(above).parent / split, PETS)
    for folder in {tmp_path / above, (tmp_path / above).parent}:
        (folder / "overview.png").write_bytes(encoded(picture(9, 9)))
    notes = load_task(tmp_path, val=0).notes
    assert len([note for note in notes if "1 images that are in no class folder" in note]) == 2


def test_a_label_file_beside_flat_images_is_named_in_the_refusal(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {".": 3})
    (tmp_path / "train" / "notes.csv").write_text("who,when\nme,today\n")
    with pytest.raises(
        DataError, match=r"nor is 'notes.csv' a table with a column of paths, such as file_name, and one of labels\)"
    ):
        load_task(tmp_path)


@pytest.mark.parametrize("target", [".", "..", "../..", "../../.."])
def test_a_link_to_a_folder_above_is_left_out(tmp_path: Path, target: str) -> None:
    root = tmp_path / "set"
    write_classes(root / "train", PETS)
    write_classes(root / "test", PETS)
    for place in ("train/cat", "train", "."):
        os.symlink(target, root / place / "again")
    task = load_task(root, val=0)
    assert torch.bincount(task.train.labels).tolist() == [4, 4]
    assert len(task.test) == 8
    assert any("left out: 3 links to folders that are read already" in note for note in task.notes)


def test_splits_may_lie_deep(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / "a" / "b" / "c" / "d" / split, PETS)
    assert sizes(load_task(tmp_path)) == (8, 8)


def test_classes_that_look_alike_are_said(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_classes(tmp_path / split, {"cat": 3, "cat\u200b": 3, "dog": 3})
    notes = load_task(tmp_path, val=0).notes
    assert r"'cat' and 'cat\u200b' are two classes whose names differ only in invisible characters" in notes


def test_images_of_no_known_extension_are_left_out_and_said(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 4, "dog": 4})
    for name in ("a", "b.dat", "c.png.download"):
        (tmp_path / "cat" / name).write_bytes(encoded(picture(0, 9), "BMP"))
    (tmp_path / "cat" / "README").write_text("no image")
    task = load_task(tmp_path, val=0)
    assert len(task.train) + len(task.test) == 8
    which = "which holds a BMP image: give it such an extension, or name it in a table)"
    assert [note for note in task.notes if note.startswith("left out")] == [
        f"left out: 1 files with the extension .dat (such as 'b.dat', {which}",
        f"left out: 1 files with the extension .download (such as 'c.png.download', {which}",
        f"left out: 2 files without an extension (such as 'a', {which}",
    ]


def test_a_class_or_a_folder_of_nothing_else_says_so(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 4, "dog": 4})
    for path in (tmp_path / "cat").iterdir():
        path.rename(path.with_suffix(""))
    left = (
        "(left out: 4 files without an extension (such as '000', which holds a PNG image: give it such an extension, or"
    )
    with pytest.raises(
        DataError, match=re.escape(f"the class folder {tmp_path / 'cat'} holds no images {left} name it in")
    ):
        load_task(tmp_path)
    for path in (tmp_path / "dog").iterdir():
        path.rename(path.with_suffix(".x"))
    with pytest.raises(
        DataError, match=re.escape("files with the extension .x (such as '000.x', which holds a PNG image")
    ):
        load_task(tmp_path)
