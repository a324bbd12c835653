"""Membership of test, val and shots: by content, whatever name, place, container or neighbours an image has."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from images import encoded, exact_hash, number, picture, write_classes, write_parquet

from robust_transfer.data import Split, Task, load_task
from robust_transfer.data.membership import draw, hold_out, ranked
from robust_transfer.errors import DataError

NAMES = ("a", "b")


def contents(split: Split) -> set[bytes]:
    return {exact_hash(image.permute(1, 2, 0).numpy()) for image in split.images()}


def parts(task: Task) -> list[set[bytes]]:
    return [contents(split) for split in (task.train, task.val, task.test)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "data", {"cat": 40, "dog": 40})


def test_test_and_val_are_what_their_numbers_say(folder: Path) -> None:
    everything = {exact_hash(picture(label, i)) for label in range(2) for i in range(40)}
    test = {content for content in everything if number(content, "data/test", 0) < 0.2}
    for seed in (0, 3):
        val = {content for content in everything - test if number(content, "data/val", seed) < 0.1}
        assert parts(load_task(folder, seed=seed)) == [everything - test - val, val, test]


def test_data_may_grow_and_be_stored_otherwise(folder: Path, tmp_path: Path) -> None:
    train, val, test = parts(load_task(folder))
    others = tmp_path / "other"
    for label, name in enumerate(("cat", "dog")):
        (others / name).mkdir(parents=True)
        for i in range(45):  # five more images, other names, another order, other lossless formats
            kind = "BMP" if i % 2 else "PNG"
            (others / name / f"{99 - i}.{kind.lower()}").write_bytes(encoded(picture(label, i), kind))
    rows = [(label, i) for i in reversed(range(42)) for label in (1, 0)]
    pixels = [encoded(picture(label, i)) for label, i in rows]
    file = write_parquet(tmp_path / "p.parquet", [label for label, _ in rows], names=NAMES, contents=pixels)
    for data in (others, file):
        grown = parts(load_task(data))
        assert all(before <= after for before, after in zip((train, val, test), grown, strict=True))
        assert not grown[2] & (train | val)


def test_copies_stay_together(folder: Path) -> None:
    for name in ("cat", "dog"):
        for path in list((folder / name).iterdir()):
            shutil.copy(path, path.with_name(f"copy-of-{path.name}"))
    for arguments in ({}, {"val": 0.5}, {"shots": 10}):
        train, val, test = parts(load_task(folder, **arguments))
        assert not train & val
        assert not (train | val) & test
        assert val


def test_shots_are_those_of_lowest_number_and_nested(folder: Path) -> None:
    whole = load_task(folder, val=0).train
    few, more = load_task(folder, shots=5, seed=2), load_task(folder, shots=15, seed=2)
    of_class = {label: [exact_hash(picture(label, i)) for i in range(40)] for label in range(2)}
    for task, shots in ((few, 5), (more, 15)):
        wanted: set[bytes] = set()
        for mine in of_class.values():
            pool = [content for content in mine if content in contents(whole)]
            wanted |= set(sorted(pool, key=lambda c: number(c, "data/shots", 2))[:shots])
        assert contents(task.train) | contents(task.val) == wanted
    assert contents(few.train) <= contents(more.train)
    assert contents(few.val) <= contents(more.val)


def test_every_class_is_on_both_sides() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    exact = np.arange(6, dtype=np.uint64)
    u = np.array([0.9, 0.5, 0.7, 0.01, 0.05, 0.02])
    held, kept = hold_out(labels, exact, u, 0.2, NAMES, "val")
    assert held.tolist() == [False, True, False, True, False, True]
    assert kept == []


def test_a_rare_class_keeps_what_it_has() -> None:
    """Two images are one on either side, whatever their numbers are; one is trained on, and so is a copy of it."""
    labels, exact = np.array([0, 0, 1, 1, 2, 1]), np.array([5, 6, 7, 7, 8, 7], np.uint64)
    for u in (np.full(6, 0.01), np.full(6, 0.99), np.array([0.01, 0.99, 0.01, 0.01, 0.99, 0.01])):
        held, kept = hold_out(labels, exact, u, 0.5, ("a", "b", "c"))
        assert kept == ["b", "c"]
        assert held[:2].sum() == 1
        assert not held[2:].any()


def test_a_class_of_copies_cannot_be_cut() -> None:
    exact = np.array([7, 7, 8, 9], np.uint64)
    with pytest.raises(DataError, match=r"class 'a' has only one image and 1 copies of it in train.*for val"):
        hold_out(np.array([0, 0, 1, 1]), exact, np.zeros(4), 0.5, NAMES, "val")
    with pytest.raises(DataError, match="class 'b' has only one image in train"):
        hold_out(np.array([0, 0, 1]), np.array([7, 5, 8], np.uint64), np.zeros(3), 0.5, NAMES, "val")


def test_of_copies_the_first_is_ranked() -> None:
    exact, u = np.array([5, 3, 5, 4], np.uint64), np.array([0.2, 0.9, 0.2, 0.1])
    assert [r.tolist() for r in ranked(np.zeros(4, int), exact, u, 1)] == [[3, 0, 1]]


def test_numbers_are_uniform_and_depend_on_purpose_and_seed() -> None:
    exact = np.random.default_rng(0).integers(0, 2**63, 20_000).astype(np.uint64)
    u = draw(exact, "data/test", 0)
    counts = np.histogram(u, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square with 19 degrees of freedom: p = 0.001
    for purpose, seed in (("data/val", 0), ("data/test", 1)):
        assert abs(np.corrcoef(u, draw(exact, purpose, seed))[0, 1]) < 0.03
    assert u[5] == number(exact[5].tobytes(), "data/test", 0)
