"""Tables of image files that the tests write, and what a task made of them is found to hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from images import encoded, picture

from robust_transfer.data import Task, load_task
from robust_transfer.errors import DataError

PETS = ["cat", "dog"] * 4
WRITERS = (".csv", ".tsv", ".jsonl", ".parquet")


def files(folder: Path, count: int, first: int = 0) -> list[str]:
    """``folder/i.png`` is ``picture(0, i)``; returns the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        (folder / f"{i}.png").write_bytes(encoded(picture(0, i)))
    return [f"{i}.png" for i in range(first, first + count)]


def write(path: Path, columns: Mapping[str, Sequence[object]]) -> Path:
    rows = list(zip(*columns.values(), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: list(cells) for name, cells in columns.items()}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        between = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(between.join(map(str, row)) + "\n" for row in [list(columns), *rows]))
    return path


def found(task: Task) -> dict[int, tuple[str, str]]:
    """Split and class of each picture, found again by its pixels."""
    numbers = {picture(0, i).tobytes(): i for i in range(60)}
    return {
        numbers[np.ascontiguousarray(image.permute(1, 2, 0).numpy()).tobytes()]: (role, task.class_names[label])
        for role, part in (("train", task.train), ("val", task.val), ("test", task.test))
        for image, label in zip(part.images(), part.labels.tolist(), strict=True)
    }


def message(data: Path, **arguments: str) -> str:
    with pytest.raises(DataError) as error:
        load_task(data, val=0, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)
