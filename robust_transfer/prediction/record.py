"""Record of a prediction: classes, probabilities, and the distance to a flip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image, or the ``error`` for which there is none.

    ``classes`` are the likeliest, the first of them predicted, with softmax ``probabilities`` (which a network trained in
    the usual way has no reason to make honest frequencies). Budgets are in ``norm``, on pixels in [0, 1].
    ``linear_eps``: the budget at which the prediction would flip if the network were linear around the image; None where no
    gradient leads anywhere. An estimate, no bound: see :mod:`robust_transfer.prediction.predictor`.
    With an ``attack``: ``broken_at`` is the smallest budget at which it flipped the prediction, a fact that float32 confirmed
    (None: at none); ``stood_at`` the largest below it at which it did not, which is no more than that attack's failure.
    """

    file: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    norm: str = ""
    linear_eps: float | None = None
    attack: str | None = None
    stood_at: float | None = None
    broken_at: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without figures that were not requested."""
        if self.error is not None:
            return {"file": self.file, "error": self.error}
        pairs = zip(self.classes, self.probabilities, strict=True)
        plain: dict[str, Any] = {
            "file": self.file,
            "top": [{"class": name, "probability": probability} for name, probability in pairs],
            "norm": self.norm,
            "linear_eps": self.linear_eps,
        }
        if self.attack is not None:
            plain |= {"attack": self.attack, "stood_at": self.stood_at, "broken_at": self.broken_at}
        return plain


def finite(eps: float) -> float | None:
    """Budget, or None for an infinite one, which JSON does not have."""
    return eps if math.isfinite(eps) else None


def in_units(eps: float | None, norm: str) -> str:
    """Budget as people write it: ``5.2/255`` in linf, ``0.43`` in l2, ``never`` for None."""
    if eps is None:
        return "never"
    return f"{255 * eps:.1f}/255" if norm == "linf" else f"{eps:.2f}"
