"""Search for copies among many images, of which only synthetic fingerprints exist, as images would take minutes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from common import header
from load import moment, taken, told
from many_images import TEST, pictures
from table import Row, figure

from robust_transfer.data.duplicates import find_copies
from robust_transfer.data.fingerprints import EXACT, SIGNS, Fingerprints, fingerprint

REAL = 5_000  # images whose shades are taken
NOISE = 8  # by which these are changed, so that no two are the same


def looks(count: int) -> Fingerprints:
    """Fingerprints of strangers: shades as those of the synthetic images, all else drawn."""
    rng = np.random.default_rng(0)
    real = np.stack([fingerprint(picture) for picture in pictures(np.arange(REAL))])
    rows = rng.integers(0, 256, (count, real.shape[1]), np.uint8)
    shades = real[rng.integers(0, REAL, count), EXACT + SIGNS :].astype(np.int16)
    shades += rng.integers(-NOISE, NOISE + 1, shades.shape, np.int16)
    rows[:, EXACT + SIGNS :] = shades.clip(0, 255)
    return Fingerprints(rows)


def searching(counts: Sequence[int]) -> list[Row]:
    """Microseconds of CPU time an image, for a tenth of the images looked for among the others."""
    header("copies among many images", images=", ".join(map(str, counts)))
    rows = list[Row]()
    for count in counts:
        prints, test = looks(count), round(TEST * count)
        begun, started = moment(), time.process_time()
        found = find_copies(prints.take(np.arange(test)), prints.take(np.arange(test, count)))
        seconds, load = time.process_time() - started, taken(begun, moment())
        assert not found.found.any(), "strangers are none"
        what, name = "search for copies, of made-up fingerprints", f"{test:,} among {count - test:,}"
        rows.append(
            Row(what, name, (1e6 * seconds / count,), "us of CPU an image", load, f"{figure(seconds)} s of CPU")
        )
        print(f"  {name}: {figure(seconds)} s of CPU (taken by others: {told(load)})", flush=True)
    return rows
