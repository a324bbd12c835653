"""Figure of what is certified over the radius, beside what attacks have left at the same budgets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_transfer.certification import Certificate
from robust_transfer.certification.record import CLASSES, RADII
from robust_transfer.drawing.figures import budgets
from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.certifying import certified_share
from robust_transfer.report.figures import Shown, Table, shown
from robust_transfer.report.levels import measured
from robust_transfer.report.words import share
from robust_transfer.statistics.intervals import Proportion
from robust_transfer.threat import Threat

STEPS = 20  # points of a certified curve

Curve = list[tuple[float, str, Proportion]]


def certified(evaluation: Evaluation, key: str) -> Shown | None:
    """Certified accuracy over the l2 radius, and the attacked one where it is in l2; None where nothing is certified in l2.

    A vacuous proof is not drawn: the caption says that there is one.
    """
    given = [each for each in evaluation.certificates if each.norm == "l2"]
    curves = {f"certified, {each.name}": _curve(evaluation, each.name) for each in given if not each.vacuous}
    if not curves:
        return None
    in_l2 = Threat.parse(evaluation.threat).norm == "l2"
    attacked: Curve = [(0.0, "not attacked", evaluation.clean_accuracy)]
    attacked += [(level.eps, level.threat, level.robust) for level in measured(evaluation)]
    series = {**curves, **({"attacked, the network itself": attacked} if in_l2 else {})}
    rows = [(f"{name}, {text}", share(found)) for name, points in series.items() for _, text, found in points]
    told = (
        f"Accuracy over the l2 radius: {', '.join(curves)}, in steps that fall"
        f"{', and the accuracy that attacks leave' if in_l2 else ''}; the table has every point."
    )
    drawing = budgets(series, unit="radius or eps (l2)", stairs=set(curves))
    caption = _caption(given, in_l2)
    return shown(drawing, key, "Certified accuracy against the radius", told, Table(("at", "accuracy"), rows), caption)


def _curve(evaluation: Evaluation, name: str) -> Curve:
    """Share of the images that are certified within each of :data:`STEPS` radii, up to the largest."""
    table = evaluation.outcomes[evaluation.outcomes[RADII + name].notna()]
    right, radii = (table[CLASSES + name] == table["label"]).to_numpy(), table[RADII + name].to_numpy()
    most = float(radii[right].max(initial=0.0)) or 1.0
    return [
        (radius, f"l2:{radius:.3g}", certified_share(radii, right, radius))
        for radius in np.linspace(0, most, STEPS + 1)
    ]


def _caption(certificates: Sequence[Certificate], in_l2: bool) -> str:
    parts = [f"{each.name}: {each.what}; {each.confidence}." for each in certificates]
    parts += [f"{each.vacuous[0].upper()}{each.vacuous[1:]}." for each in certificates if each.vacuous]
    parts.append("What is certified no attack whatever can break; what attacks have left, another attack may break.")
    if any(each.smooths for each in certificates):
        parts.append(
            "A smoothed network answers otherwise than the network itself: the two curves are of two classifiers."
        )
    if not in_l2:
        parts += [f"The evaluation is in another norm, so no attack is drawn: {certificates[0].conversion}."]
    return " ".join(parts)
