"""Red flags in the gradient: whether it exists, answers the same twice, and is the slope of the model.

Checks of :mod:`~robust_transfer.evaluation.red_flags`. Each takes a :class:`Sample` and returns a sentence, or None.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robust_transfer import losses
from robust_transfer.evaluation.flag_sample import Sample

DRAWS = 10  # random points, and steps beside them
MISLED = 4  # one in so many of the sample's images: misled gradients on fewer raise no flag
SLOPE_STEPS = (0.02, 0.2)  # of eps: over one of them a gradient that is the slope says what happens
AGREES = (0.4, 2.5)  # what happens, relative to what the gradient says
LEAST_RISE = 1e-4  # of the logits' range: float32 cannot tell smaller changes from none


def answers_change_with_gradients(sample: Sample) -> str | None:
    """Logits computed for a gradient differ from those without."""
    logits, _ = sample.target.gradient(sample.x, sample.labels, losses.margin)
    size = sample.logits.abs().amax(1).clamp_min(1e-12)
    other = int(((logits - sample.logits).abs().amax(1) > 1e-3 * size).sum())
    if other < sample.enough:
        return None
    return (
        f"the logits of {other} of {len(sample.x)} images are others where a gradient is asked for: the model can tell an "
        "attack from a user"
    )


def random_gradient(sample: Sample) -> str | None:
    """Two gradients at the same images differ, while the logits do not."""
    (_, first), (_, second) = (sample.target.gradient(sample.x, sample.labels, losses.margin) for _ in range(2))
    apart = _lengths(first - second) > 0.1 * (_lengths(first) + _lengths(second)) / 2
    if int(apart.sum()) < sample.enough:
        return None
    return (
        f"the gradient is random on {int(apart.sum())} of {len(apart)} images, though the logits are not: it misleads"
    )


def no_gradient(sample: Sample) -> str | None:
    """Margin's gradient is zero, or so small that float32 loses it; at the image, or a random point of its ball."""
    flat = max(int(flat_at(sample, at).sum()) for at in (sample.x, random_point(sample, DRAWS)))
    if flat < sample.enough:
        return None
    return f"the gradient is zero or vanishing on {flat} of {len(sample.x)} images: gradient attacks cannot see"


def flat_at(sample: Sample, at: Tensor) -> Tensor:
    """Mask ``(n,)`` of the images whose margin has no gradient ``at`` these points that float32 can tell from zero."""
    logits, gradient = sample.target.gradient(at, sample.labels, losses.margin)
    size = gradient.flatten(1).abs().amax(1) / (logits.amax(1) - logits.amin(1)).clamp_min(1e-30)
    return size < 1e-7


def no_slope(sample: Sample) -> str | None:
    """Small steps along the gradient do not change the margin by what the gradient says.

    Central differences, at two sizes of the step, of the margin to the class that comes second at the image. A network
    with kinks agrees at the small one; one that computes in few bits at the large one.
    """
    largest = min(max(SLOPE_STEPS) * sample.threat.eps, 0.05)
    inside = largest + (1 - 2 * largest) * sample.x  # for linf steps both ways stay in the box
    _, others = losses.own_and_others(sample.logits, sample.labels)
    aim = torch.stack([sample.labels, others.argmax(1)], 1)
    logits, gradient = sample.target.gradient(inside, aim, losses.targeted_margin)
    direction = sample.threat.steepest(gradient)
    slope = sample.threat.slope(gradient)
    told, agrees = torch.zeros_like(slope, dtype=torch.bool), torch.zeros_like(slope, dtype=torch.bool)
    for share in SLOPE_STEPS:
        step = share * sample.threat.eps
        ahead, behind = (
            losses.targeted_margin(sample.target.logits(inside + sign * step * direction), aim) for sign in (1, -1)
        )
        expected, found = 2 * step * slope, ahead - behind
        visible = expected.abs() > LEAST_RISE * (logits.amax(1) - logits.amin(1))
        ratio = found / expected.where(visible, torch.ones_like(expected))
        told |= visible
        agrees |= visible & (ratio > AGREES[0]) & (ratio < AGREES[1])
    wrong = int((told & ~agrees).sum())
    if wrong < max(sample.enough, len(sample.x) // MISLED):
        return None
    return (
        f"on {wrong} of {len(sample.x)} images small steps along the gradient do not change the logits as it says: "
        "it is not the model's own, or shattered"
    )


def loss_does_not_rise(sample: Sample) -> str | None:
    """Ten gradient steps reach no higher loss than the best of ten random points."""
    x, labels, loss = sample.x, sample.labels, losses.margin
    random = torch.stack(
        [loss(sample.target.logits(random_point(sample, draw)), labels) for draw in range(DRAWS)]
    ).amax(0)
    at, reached = x, torch.full_like(random, -torch.inf)
    for _ in range(DRAWS):
        logits, gradient = sample.target.gradient(at, labels, losses.get_loss("ce"))
        reached = torch.maximum(reached, loss(logits, labels))
        at = sample.threat.project(at + sample.threat.eps / 4 * sample.threat.steepest(gradient), x)
    reached = torch.maximum(reached, loss(sample.target.logits(at), labels))
    lower = int((reached <= random).sum())
    if lower < max(sample.enough, len(x) // MISLED):
        return None
    return (
        f"on {lower} of {len(x)} images ten gradient steps do no better than ten random guesses: the gradient misleads"
    )


def random_point(sample: Sample, draw: int) -> Tensor:
    """Random points of the balls around the images."""
    return sample.threat.random_start(sample.x, sample.ids, seed=sample.adversary.seed, purpose="checks", restart=draw)


def _lengths(gradient: Tensor) -> Tensor:
    lengths: Tensor = gradient.flatten(1).norm(dim=1)
    return lengths
