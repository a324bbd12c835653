"""The contract of the data formats: the same images give the same task, whatever they are stored in, or held by."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from archives import ARCHIVES, contents, pack
from images import encoded, picture, write_parquet
from PIL import Image

from robust_transfer.data import FORMATS, Task, load_task
from robust_transfer.data.formats import Format

NAMES = ("10", "2", "caf\u00e9", "cat, striped")  # in the order of their letters, as folders have it
SPLITS = {"train": 32, "validation": 8, "test": 12}
Rows = list[tuple[str, str, int, int]]  # split, class, number of the class, number of the image


def rows() -> Rows:
    return [
        (split, NAMES[i % 4], i % 4, 100 * at + i)
        for at, (split, count) in enumerate(SPLITS.items())
        for i in sorted(range(count), key=lambda i: (i % 4, i))
    ]


def image(label: int, number: int) -> bytes:
    return encoded(picture(label, number))


def folder(root: Path, layout: str = "{split}/{name}/{number}.png") -> Path:
    for split, name, label, number in rows():
        path = root / layout.format(split=split, name=name, number=f"{number:03d}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(label, number))
    return root


def flat(root: Path, column: str = "split", ending: str = ".png") -> list[dict[str, Any]]:
    """Images in one folder; the rows of a table of them."""
    folder(root, f"images/{{number}}{ending}")
    return [
        {"file_name": f"images/{number:03d}{ending}", "label": name, column: split} for split, name, _, number in rows()
    ]


def text(root: Path, suffix: str, separator: str = ",", **how: str) -> Path:
    table = flat(root, **how)
    with (root / f"labels{suffix}").open("w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in table)
        else:
            writer = csv.DictWriter(file, list(table[0]), delimiter=separator)
            writer.writeheader()
            writer.writerows(table)
    return root / f"labels{suffix}"


def paths_in_parquet(root: Path, **how: str) -> Path:
    pq.write_table(pa.Table.from_pylist(flat(root, **how)), root / "labels.parquet")
    return root / "labels.parquet"


def parquet(root: Path) -> Path:
    for split in SPLITS:
        mine = [row for row in rows() if row[0] == split]
        pictures = [image(label, number) for _, _, label, number in mine]
        write_parquet(root / f"{split}.parquet", [label for _, _, label, _ in mine], names=NAMES, contents=pictures)
    return root


def images_in_parquet(root: Path, column: str = "split") -> Path:
    """One file, with a column of splits."""
    pictures = [image(label, number) for _, _, label, number in rows()]
    splits = {column: [split for split, *_ in rows()]}
    return write_parquet(root / "all.parquet", [name for _, name, *_ in rows()], contents=pictures, extra=splits)


def metadata(root: Path) -> Path:
    folder(root, "{split}/{number}.png")
    for split in SPLITS:
        lines = [{"file_name": f"{number:03d}.png", "label": name} for s, name, _, number in rows() if s == split]
        (root / split / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def packed(write: Callable[[Path], Path], kind: str) -> Callable[[Path], Path]:
    def write_and_pack(root: Path) -> Path:
        made = write(root / "set")
        return pack(root / f"set.{kind}", contents(root / "set" if made.is_file() else made))

    return write_and_pack


WRITERS: dict[str, Callable[[Path], Path]] = {
    "an image folder": folder,
    "an image folder: splits in classes": lambda root: folder(root, "{name}/{split}/{number}.png"),
    "a folder of parquet files": parquet,
    "a folder of parquet files: paths": paths_in_parquet,
    "a folder of parquet files: paths, phase": lambda root: paths_in_parquet(root, column="phase"),
    "a folder of parquet files: a column of splits": images_in_parquet,
    "a folder of parquet files: phase": lambda root: images_in_parquet(root, "phase"),
    "a table of image files: csv": lambda root: text(root, ".csv"),
    "a table of image files: csv;": lambda root: text(root, ".csv", ";"),
    "a table of image files: tsv": lambda root: text(root, ".tsv", "\t"),
    "a table of image files: jsonl": lambda root: text(root, ".jsonl"),
    "a table of image files: folder": lambda root: text(root, ".csv").parent,
    **{
        f"a table of image files: {end}, phase": partial(text, suffix=end, column="phase") for end in (".csv", ".jsonl")
    },
    "a table of image files: no extensions": lambda root: text(root, ".csv", ending=""),
    "a table of image files: wrong extensions": lambda root: text(root, ".csv", ending=".jpg"),
    "a table of image files: metadata": metadata,
    **{f"an archive: {kind}": packed(folder, kind) for kind in ARCHIVES},
    **{f"an archive: table, {kind}": packed(lambda root: text(root, ".csv"), kind) for kind in ARCHIVES},
    **{f"an archive: metadata, {kind}": packed(metadata, kind) for kind in ("zip", "tar")},
    **{f"an archive: jsonl, {kind}": packed(lambda root: text(root, ".jsonl"), kind) for kind in ("zip", "tar.gz")},
    **{f"an archive: paths in parquet, {kind}": packed(paths_in_parquet, kind) for kind in ARCHIVES},
    "an archive: no extensions, phase": packed(partial(text, suffix=".csv", column="phase", ending=""), "zip"),
}
# They have their own data, or a Hub: tests/data/formats/test_builtin.py, tests/data/formats/test_hub.py
ELSEWHERE = {"builtin:NAME", "hf:OWNER/NAME"}


def test_every_format_is_written_here() -> None:
    assert {name.partition(":")[0] for name in WRITERS} | ELSEWHERE == set(FORMATS.names())


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_images_give_the_same_task(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path)
    taker = next(entry for entry in FORMATS if takes(entry.cls(), path))
    assert taker.name == name.partition(":")[0]
    assert_task(load_task(path, split_column="phase" if name.endswith("phase") else None))


def pictures_of(split: str) -> list[Image.Image]:
    return [Image.fromarray(picture(label, number)) for s, _, label, number in rows() if s == split]


# What Python holds, a split of it.
OBJECTS: dict[str, Callable[[Path, str], Sequence[Any]]] = {
    "paths": lambda root, split: [
        root / f"{split}/{name}/{number:03d}.png" for s, name, _, number in rows() if s == split
    ],
    "pictures": lambda _, split: pictures_of(split),
    "pictures of files": lambda _, split: [Image.open(io.BytesIO(encoded(np.asarray(p)))) for p in pictures_of(split)],
    "arrays": lambda _, split: [np.asarray(each) for each in pictures_of(split)],
    "tensors": lambda _, split: [torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in pictures_of(split)],
    "pictures and arrays": lambda _, split: [
        np.asarray(each) if row % 2 else each for row, each in enumerate(pictures_of(split))
    ],
}


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("limit", [2**31, 1000])
def test_so_do_pairs_that_python_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int) -> None:
    monkeypatch.setattr("robust_transfer.data.split.MEMORY_LIMIT", limit)
    folder(tmp_path)
    names = {split: [name for s, name, *_ in rows() if s == split] for split in SPLITS}
    held = {split: list(zip(OBJECTS[kind](tmp_path, split), names[split], strict=True)) for split in SPLITS}
    task = load_task(held)
    assert task.train.streamed == (limit < 2**31)
    assert_task(task)


@pytest.mark.parametrize(
    "name", [name for name in WRITERS if "tar." not in name]
)  # these are kept in memory, or refused
def test_what_does_not_fit_into_memory_gives_the_same_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    monkeypatch.setattr("robust_transfer.data.split.MEMORY_LIMIT", 1000)
    task = load_task(WRITERS[name](tmp_path), split_column="phase" if name.endswith("phase") else None)
    assert task.train.streamed
    assert task.test.streamed
    assert_task(task)


def takes(known: Format, path: Path) -> bool:
    return known.prefix is None and known.recognises(path)


def assert_task(task: Task) -> None:
    """What :func:`rows` says, image by image."""
    assert task.class_names == NAMES
    for split, part in zip(SPLITS, (task.train, task.val, task.test), strict=True):
        wanted = [(label, number) for s, _, label, number in rows() if s == split]
        assert part.labels.tolist() == [label for label, _ in wanted]
        pixels = [torch.from_numpy(picture(label, number)).permute(2, 0, 1) for label, number in wanted]
        assert torch.equal(part.images(), torch.stack(pixels))
