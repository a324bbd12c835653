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

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.errors import CheckpointError
from robust_transfer.statistics.intervals import Proportion, wilson

By = Literal["the only one", "clean accuracy", "batch-norm statistics", "batch-norm statistics and clean accuracy"]
IMAGES, GROUPS = 256, 8  # that evidence is gathered on, at most; in so many groups, of which any may be left out
FACTOR = 1.1  # so many times farther from the stored statistics must any rival be
FAR = 0.1  # a distance at which the images are too unlike those of training for the statistics to tell
LARGE = 64  # pixels: from there on the field trains on random resized crops
AT_ONCE = 4 * 224**2  # pixels of a pass: larger maps leave a CPU's cache, and each is new memory that the system clears
SAME = 0.002  # candidates whose logits differ by less than that share of their range are one
CANCELS = 1000  # squared mean to variance, from where on float32's sums do not tell the variance
CLEAR = 0.05  # level at which one accuracy is above another, on the same images (McNemar, exact)


class UndecidedError(CheckpointError):
    """There is no evidence for one reading of a file, or it is weak."""


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
    """``distances``: of all images, then without each group; empty without batch norm. ``right``: ``(n,)``, or None."""

    candidate: Candidate
    logits: Tensor
    distances: tuple[float, ...]
    right: Tensor | None

    @property
    def distance(self) -> float | None:
        return self.distances[0] if self.distances else None

    @property
    def share(self) -> float:
        """Share of the images that it is right on."""
        return 0.0 if self.right is None else float(self.right.float().mean())


def decide(
    candidates: Sequence[Candidate], images: Tensor | None, labels: Tensor | None = None
) -> tuple[Candidate, Decision]:
    """Candidate that the evidence speaks for; images ``(n, 3, H, W)`` in [0, 1], as the network reads them.

    Labels are the network's own. Candidates that compute the same are one: the first of them stands for all. Raises
    :class:`UndecidedError` where the evidence is weak, or its two kinds disagree: then somebody has to say.
    """
    if len(candidates) == 1 and (images is None or labels is None):
        return candidates[0], Decision((Row(candidates[0].what, None, None, True),), "the only one")
    if images is None or not len(images):
        raise UndecidedError(
            f"the file does not tell {_told(candidates)}, and there are no images to find out: say which, or give data"
        )
    images, labels = images[:IMAGES], None if labels is None else labels[:IMAGES]
    views = (images, _cropped(images))
    measured = [_measure(each, views, labels) for each in candidates]
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
            raise UndecidedError(f"{reason}: say which")
    first, by = same[0], _what_decided(best, labels)
    rest = sorted(
        (each for each in measured if each is not first), key=lambda each: (each.distance or 0.0, -each.share)
    )
    rows = tuple(_row(each, each is first) for each in [first, *rest])
    note = f"{len(same)} of them compute the same; the likeliest was taken" if len(same) > 1 else ""
    return first.candidate, Decision(rows, by if rivals else "the only one", note)


def _what_decided(best: _Measured, labels: Tensor | None) -> By:
    if best.distance is None:
        return "clean accuracy"
    return "batch-norm statistics" if labels is None else "batch-norm statistics and clean accuracy"


# ---------------------------------------------------------------- measuring


def _measure(candidate: Candidate, views: Sequence[Tensor], labels: Tensor | None) -> _Measured:
    """The first of the views are the images as they are."""
    module = candidate.build().eval()
    seen = [_look(module, view) for view in views]
    logits, distances = seen[0][0], min((found for _, found in seen), key=lambda found: found[:1])
    return _Measured(candidate, logits, distances, None if labels is None else logits.argmax(1) == labels)


def _look(module: nn.Module, images: Tensor) -> tuple[Tensor, tuple[float, ...]]:
    """Logits, and the distances of all images and without each group."""
    at_once = max(1, AT_ONCE // (images.shape[-2] * images.shape[-1]))
    groups = [group.split(at_once) for group in images.tensor_split(min(GROUPS, len(images)))]
    with torch.no_grad(), _statistics(module) as found:
        logits = torch.cat([module(part) for parts in groups for part in parts])
    passes = sum(map(len, groups))
    layers = [
        (layer, _grouped(each, groups)) for layer, each in found.items() if len(each) == passes
    ]  # none used twice
    distances = tuple(sum(each) / len(layers) for each in zip(*map(_distances, layers), strict=True))
    return logits, distances


def _cropped(images: Tensor) -> Tensor:
    """As training crops them: below :data:`LARGE` pixels after black padding by an eighth, else random resized crops."""
    size, generator = images.shape[-1], torch.Generator().manual_seed(0)
    if size >= LARGE:
        crops = torch.empty_like(images)
        for image, crop in zip(images, crops, strict=True):
            crop.copy_(_resized_crop(image, generator))
        return crops
    padded = F.pad(images, (size // 8,) * 4)
    corners = torch.randint(0, 2 * (size // 8) + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([one[:, y : y + size, x : x + size] for one, (y, x) in zip(padded, corners, strict=True)])


def _resized_crop(image: Tensor, generator: torch.Generator) -> Tensor:
    """A square of 8 to 100 % of the area (Szegedy et al. 2015), enlarged."""
    size = image.shape[-1]
    share = 0.08 + 0.92 * float(torch.rand((), generator=generator))
    side = max(1, round(size * share**0.5))
    y, x = (int(torch.randint(0, size - side + 1, (), generator=generator)) for _ in range(2))
    part = image[None, :, y : y + side, x : x + side]
    return F.interpolate(part, size=(size, size), mode="bilinear", antialias=True, align_corners=False)[0]


Moments = list[tuple[Tensor, Tensor]]  # mean and variance of each channel, of a pass or a group of images each


@contextmanager
def _statistics(module: nn.Module) -> Iterator[dict[_BatchNorm, Moments]]:
    """Moments of the inputs of the batch-norm layers that are used."""
    found: dict[_BatchNorm, Moments] = {}

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.setdefault(cast(_BatchNorm, layer), []).append(_moments(given[0]))

    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    handles = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of ``(B, C, ...)``, float64.

    From sums of values and of squares, which take a tenth of the network's own time, unless they cancel out.
    """
    flat = x.flatten(2) if x.dim() > 2 else x[..., None]
    mean, square = (
        side.double().sum(0) / (len(x) * flat.shape[2])
        for side in (flat.sum(2), torch.linalg.vector_norm(flat, dim=2).double().square())
    )
    var = square - mean.square()
    if bool((mean.square() > CANCELS * var).any()):
        return torch.var_mean(flat.double(), (0, 2), correction=0)[::-1]
    return mean, var


def _grouped(passes: Moments, groups: Sequence[Sequence[Tensor]]) -> Moments:
    """Moments of the groups, of those of their passes."""
    left, merged = iter(passes), Moments()
    for parts in groups:
        means, variances = (torch.stack(side) for side in zip(*(next(left) for _ in parts), strict=True))
        share = torch.tensor([len(part) for part in parts], dtype=means.dtype, device=means.device)[:, None]
        share = share / share.sum()
        mean = (share * means).sum(0)
        merged.append((mean, (share * (variances + (means - mean) ** 2)).sum(0)))
    return merged


def _distances(measured: tuple[_BatchNorm, Moments]) -> list[float]:
    """Distance of a layer for all images, then without each group (groups are of about one size)."""
    layer, moments = measured
    means, variances = (torch.stack(side) for side in zip(*moments, strict=True))
    every = torch.arange(len(moments))
    some = [every, *(every[every != out] for out in every if len(every) > 1)]
    return [
        _divergence(layer, means[of].mean(0), variances[of].mean(0) + means[of].var(0, correction=0)) for of in some
    ]


def _divergence(layer: _BatchNorm, mean: Tensor, var: Tensor) -> float:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    kept, spread = layer.running_mean.double(), layer.running_var.double()
    alive = spread > 1e-8  # of a dead channel nothing can be told
    if not bool(alive.any()):
        return 0.0
    ratio = ((var + layer.eps) / (spread + layer.eps))[alive]
    apart = ((mean - kept) ** 2 / (spread + layer.eps))[alive]
    divergence = 0.5 * (ratio - 1 - ratio.log() + apart)
    return float(divergence.log1p().mean())


# ---------------------------------------------------------------- judging


def _refuse_chance(best: float, n: int, classes: int) -> None:
    """Where nothing is right more often than a guess, the classes are others, or something is wrong that nobody tried."""
    from scipy.special import bdtrc

    right = round(best * n)
    if not right or bdtrc(right - 1, n, 1 / classes) > CLEAR:
        raise UndecidedError(
            f"no reading of the file is right on these images more often than chance ({right} of {n}, {classes} classes): "
            "are they of the network's own classes, in its order?"
        )


def _alike(a: _Measured, b: _Measured) -> bool:
    spread = (b.logits.amax(1) - b.logits.amin(1)).mean().clamp_min(1e-12)
    return bool(((a.logits - b.logits).abs().mean() / spread) <= SAME)


def _doubt(best: _Measured, rival: _Measured, n: int) -> str | None:
    """Reason why ``best`` is not clearly better than ``rival``, in a sentence without its end."""
    both = f"{_named(best)} ({_figures(best)}) and {_named(rival)} ({_figures(rival)}), on {n} images"
    if best.right is not None and rival.right is not None:
        won, lost = (int((a & ~b).sum()) for a, b in ((best.right, rival.right), (rival.right, best.right)))
        if best.distance is not None and lost > won and _binomial_tail(lost, won + lost) <= CLEAR:
            return f"batch-norm statistics and clean accuracy disagree: {both}"
        if _binomial_tail(won, won + lost) <= CLEAR:
            return None
    if best.distance is None or rival.distance is None:
        return f"the evidence is weak, and without batch norm there is no other: {both}"
    if best.distance > FAR:
        return f"the images are too unlike those of training to tell: {both}"
    hangs_on_a_group = any(theirs <= mine for mine, theirs in zip(best.distances, rival.distances, strict=True))
    if rival.distance < FACTOR * best.distance or hangs_on_a_group:
        return f"the evidence is weak: {both}"
    return None


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
    right = [] if each.right is None else [f"{100 * each.share:.0f} % right"]
    return ", ".join([*right, *([] if each.distance is None else [f"distance {each.distance:.3f}"])])


def _told(candidates: Sequence[Candidate]) -> str:
    """Settings that differ between candidates, with their values."""
    keys = list(dict.fromkeys(key for each in candidates for key in each.what))
    values: dict[str, list[Any]] = {key: list(dict.fromkeys(each.what.get(key) for each in candidates)) for key in keys}
    return ", ".join(f"{key} ({' or '.join(map(str, some))})" for key, some in values.items() if len(some) > 1)
