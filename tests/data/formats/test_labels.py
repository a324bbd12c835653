"""Labels of parquet files: text, numbers and other types."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from images import write_parquet

from robust_transfer.data import load_task


def test_text_labels_name_the_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["eel", "cat"] * 5 + ["dog"] * 5)
    write_parquet(tmp_path / "test.parquet", ["dog", "eel"])
    task = load_task(tmp_path, val=0)
    assert task.class_names == ("cat", "dog", "eel")
    assert task.train.labels.tolist() == [2, 0] * 5 + [1] * 5
    assert task.test.labels.tolist() == [1, 2]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint8(), pa.int16()])
def test_whole_numbers_are_classes_in_their_order(tmp_path: Path, kind: pa.DataType) -> None:
    write_parquet(tmp_path / "train.parquet", pa.array([10, 2, 2, 10, 1, 1], kind))
    write_parquet(tmp_path / "test.parquet", pa.array([10, 1], kind))
    task = load_task(tmp_path, val=0)
    assert task.class_names == ("1", "2", "10")
    assert task.train.labels.tolist() == [2, 1, 1, 2, 0, 0]
    assert task.test.labels.tolist() == [2, 0]


@pytest.mark.parametrize("labels", [pa.array([True, False] * 4), pa.array(["true", "false"] * 4).dictionary_encode()])
def test_other_types_of_label(tmp_path: Path, labels: pa.Array) -> None:
    task = load_task(write_parquet(tmp_path / "train.parquet", labels), val=0)
    assert task.class_names == ("false", "true")
