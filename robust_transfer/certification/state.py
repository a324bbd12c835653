"""State of an unfinished certificate: what was found for the images so far, in one file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import ArrowInvalid

from robust_transfer.errors import OutputError
from robust_transfer.files import read_table, write_bytes

EVERY = 10.0  # seconds between two writes


class Progress:
    """``class`` and ``count`` of each of ``n`` images, -1 where not known yet; kept in the file ``path``, if there is one."""

    def __init__(self, n: int, path: Path | None, identity: dict[str, Any], *, resume: bool) -> None:
        self.path, self.identity, self.passes, self.seconds = path, identity, 0, 0.0
        self.classes, self.counts = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
        self._written = self._begun = time.monotonic()
        if resume and path is not None and path.exists():
            self._read(path)

    @property
    def pending(self) -> NDArray[np.int64]:
        """Rows still to be looked at."""
        return np.flatnonzero(self.counts < 0)

    def note(self, rows: NDArray[np.int64], classes: NDArray[np.int64], counts: NDArray[np.int64], passes: int) -> None:
        """Keep what was found for ``rows``, and write it now and then."""
        self.classes[rows], self.counts[rows] = classes, counts
        self.passes += passes
        if self.path is not None and time.monotonic() - self._written > EVERY:
            self.write()

    def write(self) -> None:
        """One file, whole or not at all."""
        if self.path is None:
            return
        table = pd.DataFrame({"class": self.classes, "count": self.counts})
        table.attrs = {"identity": self.identity, "passes": self.passes}
        write_bytes(self.path, table.to_parquet(index=False))
        self._written = time.monotonic()

    def _read(self, path: Path) -> None:
        try:
            table = read_table(path)
            saved, passes = dict(table.attrs["identity"]), int(table.attrs["passes"])
            classes, counts = (table[name].to_numpy(np.int64, copy=True) for name in ("class", "count"))
        except (OSError, ArrowInvalid, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path} is damaged ({type(error).__name__}): begin again with --overwrite") from None
        if saved == self.identity and len(counts) == len(self.counts):  # another model's or data's says nothing here
            self.classes, self.counts, self.passes = classes, counts, passes
