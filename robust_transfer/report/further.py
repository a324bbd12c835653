"""Table of the robust accuracy within further threats, beside the evaluated one."""

from __future__ import annotations

from typing import Any

from robust_transfer.attacks.naming import spoken
from robust_transfer.evaluation import Evaluation
from robust_transfer.report.figures import Table
from robust_transfer.report.words import share


def further(evaluation: Evaluation) -> dict[str, Any] | None:
    """Table of all threats, with a row for what stands within all of them; None where there is one threat only."""
    found = evaluation.further
    if not found:
        return None
    rows = [
        (f"{evaluation.threat} (evaluated)", share(evaluation.robust_accuracy)),
        *((each.threat, share(each.robust_accuracy)) for each in found),
        ("within each of them", share(found[-1].together)),
    ]
    caption = (
        f"Robust accuracy of the same {evaluation.robust_accuracy.n:,} images, attacked by {spoken(evaluation.attack)} within "
        "each threat. The last row: the share that stands within every one of them."
    )
    return {"table": Table(("threat", "robust accuracy"), rows), "caption": caption}
