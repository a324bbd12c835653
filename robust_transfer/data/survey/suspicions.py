"""Suspicious images: damaged, constant, tiny, huge, long and narrow, grey among coloured ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robust_transfer.data.survey.look import Looks

TIMES = 4.0  # a side is tiny or huge where it is so many times shorter or longer than the median one
ASPECT = 4.0  # the longer side over the shorter, from which on a picture is long and narrow
MINORITY = 0.1  # of grey images among others, up to which they are exceptions


def suspicions(looks: Looks) -> dict[str, NDArray[np.int64]]:
    """Rows of :class:`Looks` by kind of suspicion, without empty kinds."""
    whole = looks.whole
    short = np.minimum(looks.width, looks.height)[whole].astype(float)
    long = np.maximum(looks.width, looks.height)[whole].astype(float)
    grey = looks.grey[whole] & ~looks.constant[whole]
    found = {"damaged": np.array(sorted(looks.damaged), np.int64)}
    if len(whole):
        aspect = long / short
        found |= {
            "constant": whole[looks.constant[whole]],
            "tiny": whole[short * TIMES < np.median(short)],
            "huge": whole[long > TIMES * np.median(long)],
            "long and narrow": whole[(aspect > ASPECT) & (aspect > 2 * np.median(aspect))],
            "grey among colour": whole[grey] if grey.mean() <= MINORITY else whole[:0],
        }
    return {what: rows for what, rows in found.items() if len(rows)}
