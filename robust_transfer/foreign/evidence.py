"""Evidence for what no file tells: normaliser, activation, padding, shortcut.

Two kinds. With labelled images: clean accuracy. Without labels: batch-norm statistics, for the layers' inputs on images
like those of training have the means and variances that the file stores if, and only if, all before them is computed as
in training. The distance is the mean over layers and channels of the Kullback-Leibler divergence between the Gaussian of
the images and that of the file; 0 is perfect, and the logarithm keeps single channels from deciding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.errors import CheckpointError
from robust_transfer.statistics.intervals import Proportion, wilson

By = Literal["given", "stated in the file", "the only one", "clean accuracy", "batch-norm statistics"]
IMAGES = 128  # that evidence is gathered on, at most
FACTOR = 1.25  # so many times nearer to the stored statistics must the best be than any that computes something else
SAME = 0.02  # candidates whose logits differ by less than that share of their range are one
CLEAR = 0.05  # level at which one accuracy is above another, on the same images (McNemar, exact)


@dataclass(frozen=True)
class Row:
    """Candidate and what speaks for it: ``accuracy`` on labelled images, ``distance`` to the stored statistics."""

    what: dict[str, str]
    accuracy: Proportion | None
    distance: float | None
    chosen: bool


@dataclass(frozen=True)
class Decision:
    """Table of the candidates, the best first, and what the choice was made ``by``."""

    rows: tuple[Row, ...]
    by: By
    note: str = ""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One reading of the file: its settings as text, and the module that it makes, in evaluation mode."""

    what: dict[str, str]
    build: Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class _Measured:
    candidate: Candidate
    logits: Tensor
    distance: float | None
    right: Tensor | None


def decide(
    candidates: Sequence[Candidate], images: Tensor | None, labels: Tensor | None = None
) -> tuple[Candidate, Decision]:
    """Candidate that the evidence speaks for; images ``(n, 3, H, W)`` in [0, 1], as the network reads them.

    Candidates that compute nearly the same are one: the first of them stands for all. Raises :class:`CheckpointError`,
    with the table, where the evidence is weak: then somebody has to say.
    """
    if len(candidates) == 1:
        return candidates[0], Decision((Row(candidates[0].what, None, None, True),), "the only one")
    if images is None or not len(images):
        told = _told(candidates)
        raise CheckpointError(
            f"the file does not tell {told}, and there are no images to find out: say which, or give data"
        )
    measured = [_measure(each, images[:IMAGES], None if labels is None else labels[:IMAGES]) for each in candidates]
    by: By = "clean accuracy" if labels is not None else "batch-norm statistics"
    if labels is None and any(each.distance is None for each in measured):
        raise CheckpointError(
            f"the file does not tell {_told(candidates)}; the network has no batch norm that could: give labelled images "
            "of its own classes, or say which"
        )
    if labels is not None:
        _refuse_chance(max(map(_share, measured)), len(images[:IMAGES]), int(measured[0].logits.shape[1]))
    ordered = sorted(measured, key=_accuracy_first if labels is not None else _distance_first)
    best = ordered[0]
    same = [each for each in ordered if _alike(each, best)]
    first = min(same, key=measured.index)
    rivals = [each for each in ordered if each not in same]
    weak = next((each for each in rivals if not _clearly_better(best, each)), None)
    rows = tuple(_row(each, each is first) for each in [first, *(each for each in ordered if each is not first)])
    if weak is not None:
        raise CheckpointError(
            f"the evidence is weak: {_named(best)} is hardly better than {_named(weak)} "
            f"({_figures(best)} against {_figures(weak)}, {len(images[:IMAGES])} images): say which"
        )
    note = f"{len(same)} of them compute nearly the same; the likeliest was taken" if len(same) > 1 else ""
    return first.candidate, Decision(rows, by, note)


# ---------------------------------------------------------------- measuring


def _measure(candidate: Candidate, images: Tensor, labels: Tensor | None) -> _Measured:
    module = candidate.build().eval()
    with torch.no_grad(), _statistics(module) as found:
        logits = module(images)
    distance = sum(found) / len(found) if found else None
    return _Measured(candidate, logits, distance, None if labels is None else logits.argmax(1) == labels)


@contextmanager
def _statistics(module: nn.Module) -> Iterator[list[float]]:
    """Distances of batch-norm layers, in the order in which they are computed."""
    found: list[float] = []

    def look(layer: _BatchNorm, given: tuple[Tensor, ...]) -> None:
        found.append(_divergence(given[0], layer))

    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _divergence(x: Tensor, layer: _BatchNorm) -> float:
    """Mean over channels of ``log(1 + KL)`` from the Gaussian of the images to the stored one."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    over = [d for d in range(x.dim()) if d != 1]
    mean, var = x.double().mean(over), x.double().var(over, correction=0)
    kept, spread = layer.running_mean.double(), layer.running_var.double()
    alive = spread > 1e-8  # of a dead channel nothing can be told
    if not bool(alive.any()):
        return 0.0
    ratio = ((var + layer.eps) / (spread + layer.eps))[alive]
    apart = ((mean - kept) ** 2 / (spread + layer.eps))[alive]
    divergence = 0.5 * (ratio - 1 - ratio.log() + apart)
    return float(divergence.log1p().mean())


# ---------------------------------------------------------------- judging


def _accuracy_first(each: _Measured) -> tuple[float, float]:
    return -_share(each), each.distance or 0.0


def _distance_first(each: _Measured) -> float:
    assert each.distance is not None
    return each.distance


def _share(each: _Measured) -> float:
    assert each.right is not None
    return float(each.right.float().mean())


def _refuse_chance(best: float, n: int, classes: int) -> None:
    """Where nothing is right more often than a guess, the classes are others, or something is wrong that nobody tried."""
    from scipy.special import bdtrc

    right = round(best * n)
    if not right or bdtrc(right - 1, n, 1 / classes) > CLEAR:
        raise CheckpointError(
            f"no reading of the file is right on these images more often than chance ({right} of {n}, {classes} classes): "
            "are they of the network's own classes, in its order?"
        )


def _alike(a: _Measured, b: _Measured) -> bool:
    spread = (b.logits.amax(1) - b.logits.amin(1)).mean().clamp_min(1e-12)
    return bool(((a.logits - b.logits).abs().mean() / spread) <= SAME)


def _clearly_better(best: _Measured, other: _Measured) -> bool:
    if best.right is None or other.right is None:
        assert best.distance is not None
        assert other.distance is not None
        return other.distance >= FACTOR * best.distance
    won = int((best.right & ~other.right).sum())
    lost = int((other.right & ~best.right).sum())
    return _binomial_tail(won, won + lost) <= CLEAR


def _binomial_tail(won: int, n: int) -> float:
    """Probability that a fair coin falls ``won`` times or more in ``n``."""
    from scipy.special import bdtrc

    return float(bdtrc(won - 1, n, 0.5)) if won else 1.0


def _row(each: _Measured, chosen: bool) -> Row:
    right = each.right
    accuracy = None if right is None else wilson(int(right.sum()), len(right))
    return Row(each.candidate.what, accuracy, each.distance, chosen)


def _named(each: _Measured) -> str:
    return ", ".join(f"{key} {value}" for key, value in each.candidate.what.items())


def _figures(each: _Measured) -> str:
    if each.right is not None:
        return f"{100 * _share(each):.0f} % right"
    return f"distance {each.distance:.3f}"


def _told(candidates: Sequence[Candidate]) -> str:
    """Settings that differ between candidates, with their values."""
    keys = list(dict.fromkeys(key for each in candidates for key in each.what))
    values: dict[str, list[Any]] = {key: list(dict.fromkeys(each.what.get(key) for each in candidates)) for key in keys}
    return ", ".join(f"{key} ({' or '.join(map(str, some))})" for key, some in values.items() if len(some) > 1)
