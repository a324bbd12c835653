"""A data set that several tests of loading use."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_helpers import NAMES, balanced
from images import encoded, picture, write_parquet


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """30 training images in two shards of three, and 9 test images."""
    folder = tmp_path / "pets"
    content = [encoded(picture(0, i)) for i in range(30)]
    for shard in range(2):
        some = slice(15 * shard, 15 * shard + 15)
        path = folder / f"train-0000{shard}-of-00003.parquet"
        write_parquet(path, balanced(30)[some], names=NAMES, contents=content[some])
    write_parquet(folder / "test-00000-of-00001.parquet", balanced(9), names=NAMES)
    return folder
