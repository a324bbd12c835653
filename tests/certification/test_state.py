"""What a certificate has found so far: read back, of this certificate only, and refused where it is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robust_transfer.certification.state import Progress
from robust_transfer.errors import OutputError


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "state" / "certificate.parquet"
    path.parent.mkdir()
    first = Progress(4, path, {"of": "a"}, resume=False)
    assert first.pending.tolist() == [0, 1, 2, 3]
    first.note(np.array([1, 3]), np.array([7, 2]), np.array([90, 0]), 300)
    assert not path.exists()  # not with every block
    first.write()
    again = Progress(4, path, {"of": "a"}, resume=True)
    assert (again.classes.tolist(), again.counts.tolist(), again.passes) == ([-1, 7, -1, 2], [-1, 90, -1, 0], 300)
    assert again.pending.tolist() == [0, 2]
    assert Progress(4, path, {"of": "a"}, resume=False).pending.tolist() == [0, 1, 2, 3]
    assert Progress(4, path, {"of": "b"}, resume=True).pending.tolist() == [0, 1, 2, 3]


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "certificate.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(OutputError, match="damaged"):
        Progress(4, path, {}, resume=True)
