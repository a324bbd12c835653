"""Columns of parquet files: found by their usual names, or given; bytes, paths and structs of both."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from data_helpers import balanced, pixels
from images import encoded, picture, write_parquet

from robust_transfer.data import load_task


def test_columns_are_found_or_named(tmp_path: Path) -> None:
    fine, coarse = balanced(12), balanced(12, 2)
    write_parquet(tmp_path / "train.parquet", fine, image="img", label="fine_label", extra={"coarse_label": coarse})
    assert load_task(tmp_path, label_column="coarse_label").num_classes == 2
    assert load_task(tmp_path, label_column="fine_label", image_column="img").num_classes == 3


def test_the_usual_label_column_wins(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", balanced(12), extra={"coarse_label": balanced(12, 2)})
    assert load_task(tmp_path).num_classes == 3


def test_bytes_and_paths_are_images_too(tmp_path: Path) -> None:
    contents = [encoded(picture(0, i)) for i in range(6)]
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.png").write_bytes(content)
    paths = [f"{i}.png" for i in range(6)]
    structs = [{"bytes": None, "path": path} for path in paths]
    for name, column in (("bytes", contents), ("paths", paths), ("structs", structs)):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"image": column, "label": balanced(6, 2)}), path)
        task = load_task(path, val=0, image_column="image")
        assert torch.equal(task.train.images()[0], pixels(int(task.train.ids[0])))
