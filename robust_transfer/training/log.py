"""Log of a training run: ``metrics.jsonl``, and the trackers."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from robust_transfer import tracking
from robust_transfer.files import append_line


class Log:
    """``metrics.jsonl``: one JSON object a line. Without a folder only the trackers receive records."""

    def __init__(self, folder: Path | None) -> None:
        self.path = folder / "metrics.jsonl" if folder is not None else None

    @property
    def is_read(self) -> bool:
        """True if there is a file or a tracker."""
        return self.path is not None or tracking.is_on()

    def write(self, record: dict[str, Any]) -> None:
        """Append a record; values that are not numbers become null, and are not sent to the trackers."""
        tracking.log(record)
        if self.path is not None:
            append_line(self.path, json.dumps({k: None if _is_nan(v) else v for k, v in record.items()}))

    def size(self) -> int:
        """Length of the log in bytes."""
        return self.path.stat().st_size if self.path is not None and self.path.exists() else 0

    def cut(self, size: int | None, step: int) -> None:
        """Truncate to ``size`` bytes (unknown: after the last line of ``step``): a resumed run writes the rest again."""
        if self.path is None or not self.path.exists():
            return
        if size is None:
            size = end = 0
            for line in self.path.read_bytes().splitlines(keepends=True):
                end += len(line)
                size = end if _step(line) <= step else size
        if size < self.size():
            os.truncate(self.path, size)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _step(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # the line that a kill cut short
