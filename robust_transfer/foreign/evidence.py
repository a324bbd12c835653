"""Evidence for what no file tells: normaliser, activation, padding, shortcut.

Two kinds. Batch-norm statistics, without labels: on images like those of training, the inputs of the layers have the means
and variances that the file stores if all before them is computed as in training. The distance of a layer is the mean over
its channels of ``log(1 + KL)``, from the Gaussian of the images to the stored one; of a network, the mean over its layers;
0 is perfect. Training crops its images at random, and the black borders move the statistics more than a wrong normaliser
does: they are taken of the images as they are and as training crops them, and the nearer counts. Clean accuracy, on
labelled images of the network's own classes: it tells other networks from this one, but hardly one normaliser from the
next, which cost it a point or two; there the statistics are the sharper test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.heats import FEW, heat
from robust_transfer.foreign.likeness import unlike_any
from robust_transfer.foreign.measuring import Candidate, Measured, measure_all
from robust_transfer.statistics.intervals import Proportion, wilson

By = Literal["the only one", "clean accuracy", "batch-norm statistics", "batch-norm statistics and clean accuracy"]
IMAGES = 256  # that evidence is gathered on, at most
MIN_IMAGES = 16  # images: of fewer, the statistics are chance
FACTOR = 1.1  # so many times farther from the stored statistics must any rival be
FAR = 0.1  # a distance at which the images are too unlike those of training for the statistics to tell
SAME = 0.002  # candidates whose logits differ by less than that share of their range are one
WHAT_TO_GIVE = (
    "say which (`import` takes --normalisation and --set), or give images like those of training, labelled with the network's "
    "own classes if it has some"
)
FAR_OFF = "the images' statistics are far from those stored: they are unlike the images of training, or what was given is wrong"
CLEAR = 0.05  # level at which one accuracy is above another, on the same images (McNemar, exact)


class UndecidedError(CheckpointError):
    """Evidence for one reading of a file that is missing or weak."""


class ChanceError(UndecidedError):
    """No reading beats chance: the labels may be of other classes, or in another order."""


@dataclass(frozen=True)
class Row:
    """Candidate and its evidence: ``accuracy`` on labelled images, ``distance`` to the stored statistics."""

    what: dict[str, str]
    accuracy: Proportion | None
    distance: float | None
    chosen: bool


@dataclass(frozen=True)
class Decision:
    """Table of the candidates, the best first, and the evidence ``by`` which it was chosen."""

    rows: tuple[Row, ...]
    by: By
    note: str = ""


def decide(
    candidates: Sequence[Candidate], images: Tensor | None, labels: Tensor | None = None
) -> tuple[Candidate, Decision]:
    """Choose a candidate by the evidence on images ``(n, 3, H, W)`` in [0, 1], at the network's input size.

    Labels are the network's own. Candidates that compute the same count as one, the first of them. Raises
    :class:`UndecidedError` where the evidence is weak, or where its two kinds disagree; hints have to decide then.
    """
    if len(candidates) == 1 and images is None:
        return candidates[0], Decision((Row(candidates[0].what, None, None, True),), "the only one")
    if images is None or not len(images):
        raise UndecidedError(
            f"the file does not tell {_told(candidates)}, and there are no images to find out: say which, or give data"
        )
    images, labels = images[:IMAGES], None if labels is None else labels[:IMAGES]
    left, out = heat(candidates, images, labels)
    measured = measure_all(left, images, labels, "readings of the file")
    n, classes = measured[0].logits.shape
    if labels is not None:
        _refuse_chance(max(each.share for each in measured), n, classes)
    best = min(measured, key=lambda each: (each.distance if each.distance is not None else 0.0, -each.share))
    if best.distance is None:
        best = max(measured, key=lambda each: each.share)
    same = [each for each in measured if _alike(each, best)]
    rivals = [each for each in measured if each not in same]
    for rival in rivals:
        if (reason := _doubt(best, rival, len(images))) is not None:
            raise UndecidedError(f"{reason}: {WHAT_TO_GIVE}")
    unsaid = [each for each in rivals if not _more_often_right(best, each)]  # by labels
    if (reason := unlike_any(images, best.candidate.what, [each.candidate.what for each in unsaid])) is not None:
        raise UndecidedError(f"{reason}: {WHAT_TO_GIVE}")
    first, by = same[0], _what_decided(best, labels)
    rest = sorted(
        (each for each in measured if each is not first), key=lambda each: (each.distance or 0.0, -each.share)
    ) + sorted(out, key=lambda each: each.distance or 0.0)
    rows = tuple(_row(each, each is first) for each in [first, *rest])
    notes = [f"{len(same)} of them compute the same; the likeliest was taken"] if len(same) > 1 else []
    if out:
        notes.append(f"{len(out)} of them were so far off on {FEW} of the images that they were tried on no more")
    if not rivals and best.distance is not None and best.distance > FAR:
        notes.append(FAR_OFF)
    return first.candidate, Decision(rows, by if rivals or out else "the only one", "; ".join(notes))


def _what_decided(best: Measured, labels: Tensor | None) -> By:
    if best.distance is None:
        return "clean accuracy"
    return "batch-norm statistics" if labels is None else "batch-norm statistics and clean accuracy"


# ---------------------------------------------------------------- judging


def _refuse_chance(best: float, n: int, classes: int) -> None:
    """Raise :class:`ChanceError` where no candidate beats chance: other classes, or an untried cause."""
    from scipy.special import bdtrc

    right = round(best * n)
    if not right or bdtrc(right - 1, n, 1 / classes) > CLEAR:
        raise ChanceError(
            f"no reading of the file is right on these images more often than chance ({right} of {n}, {classes} classes): "
            "are they of the network's own classes, in its order? Where they are not, give no labelled images"
        )


def _alike(a: Measured, b: Measured) -> bool:
    """True if two readings' logits differ negligibly, relative to their variation over classes and images.

    Logits that no image moves (a head of 0) make no two readings alike.
    """
    if a is b:
        return True
    ranges = [(b.logits.amax(d) - b.logits.amin(d)).mean() for d in (0, 1)]
    return bool((a.logits - b.logits).abs().mean() < SAME * min(ranges))


def _doubt(best: Measured, rival: Measured, n: int) -> str | None:
    """Reason why ``best`` is not clearly better than ``rival``, a clause."""
    both = f"{_named(best)}{_figures(best)} and {_named(rival)}{_figures(rival)}, on {n} images"
    if best.right is not None and rival.right is not None:
        won, lost = (int((a & ~b).sum()) for a, b in ((best.right, rival.right), (rival.right, best.right)))
        if best.distance is not None and lost > won and _binomial_tail(lost, won + lost) <= CLEAR:
            return f"batch-norm statistics and clean accuracy disagree: {both}"
    if _more_often_right(best, rival):
        return None
    if best.distance is None or rival.distance is None:
        none = "labels of its own classes would tell, and" if best.right is None else "the labels hardly tell, and"
        return f"the evidence is weak: {none} without batch norm there is no other: {both}"
    if n < MIN_IMAGES:
        return f"{n} images are too few, {MIN_IMAGES} are needed: {both}"
    if best.distance > FAR:
        return f"the images are too unlike those of training to tell: {both}"
    hangs_on_a_group = any(theirs <= mine for mine, theirs in zip(best.distances, rival.distances, strict=True))
    if rival.distance < FACTOR * best.distance or hangs_on_a_group:
        return f"the evidence is weak: {both}"
    return None


def _more_often_right(best: Measured, rival: Measured) -> bool:
    """True if ``best`` is correct significantly more often on the same images."""
    if best.right is None or rival.right is None:
        return False
    won, lost = (int((a & ~b).sum()) for a, b in ((best.right, rival.right), (rival.right, best.right)))
    return _binomial_tail(won, won + lost) <= CLEAR


def _binomial_tail(won: int, n: int) -> float:
    """Probability that a fair coin falls ``won`` times or more in ``n``."""
    from scipy.special import bdtrc

    return float(bdtrc(won - 1, n, 0.5)) if won else 1.0


def _row(each: Measured, chosen: bool) -> Row:
    right = each.right
    accuracy = None if right is None else wilson(int(right.sum()), len(right))
    return Row(each.candidate.what, accuracy, each.distance, chosen)


def _named(each: Measured) -> str:
    return ", ".join(f"{key} {value}" for key, value in each.candidate.what.items())


def _figures(each: Measured) -> str:
    right = [] if each.right is None else [f"{100 * each.share:.0f} % right"]
    figures = [*right, *([] if each.distance is None else [f"distance {each.distance:.3f}"])]
    text = ", ".join(figures)
    return f" ({text})" if text else ""


def _told(candidates: Sequence[Candidate]) -> str:
    """Settings that differ between candidates, with their values."""
    keys = list(dict.fromkeys(key for each in candidates for key in each.what))
    values: dict[str, list[Any]] = {key: list(dict.fromkeys(each.what.get(key) for each in candidates)) for key in keys}
    return ", ".join(f"{key} ({' or '.join(map(str, some))})" for key, some in values.items() if len(some) > 1)
