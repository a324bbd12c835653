"""Table of the accuracy under each corruption and severity, shaded as a confusion matrix is."""

from __future__ import annotations

from typing import Any

from robust_transfer.corruptions import SEVERITIES
from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.corrupted import CAUTIONS, spoken
from robust_transfer.statistics.intervals import Proportion

SHADES = 8  # beside none


def corrupted(evaluation: Evaluation) -> dict[str, Any] | None:
    """Rows of the table with their shades, what they are of, and what they do not say; None where nothing was corrupted."""
    found = evaluation.corrupted
    if found is None:
        return None
    return {
        "mean": found.accuracy,
        "what": found.what,
        "cautions": [f"{caution[0].upper()}{caution[1:]}." for caution in CAUTIONS],
        "severities": SEVERITIES,
        "rows": [
            {"name": spoken(name), "mean": kind.mean, "cells": [(share, _shade(share)) for share in kind.severities]}
            for name, kind in found.kinds.items()
        ],
    }


def _shade(share: Proportion) -> int:
    """0 to :data:`SHADES`: how much of the images is still right."""
    return int(share.value * SHADES)
