"""Per-example losses: logits ``(B, K)`` and labels ``(B,)`` to ``(B,)``, in float32. Larger is worse for the model."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_transfer.errors import UnknownNameError
from robust_transfer.registry import unknown

Loss = Callable[[Tensor, Tensor], Tensor]

# The range of logits (largest less smallest) that classifiers trained by cross-entropy have lies between these two.
SMALL, LARGE, TYPICAL = 1.0, 100.0, 10.0


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log softmax(logits)[label]``."""
    return F.cross_entropy(logits.float(), labels, reduction="none")


def log_odds(logits: Tensor, labels: Tensor, scale: Tensor | None = None) -> Tensor:
    """Log odds of any other class, ``logsumexp_{k != y} logit_k - logit_y``: cross-entropy as attacks climb it.

    Cross-entropy is ``log(1 + exp(.))`` of it, so the two have gradients of the same direction; but that of
    cross-entropy vanishes in float32 once a network is sure of itself, and so would an attack ("gradient masking",
    Carlini & Wagner 2017, section 6.1). Logits that lie closer together or further apart than a trained
    classifier's are first scaled to a typical range, so that a network whose logits are multiplied by a constant is
    attacked as before; ``scale`` ``(B,)`` settles by how much (see :func:`settle`).
    """
    logits = logits.float()
    scale = _usual_scale(logits.detach()) if scale is None else scale
    own, others = own_and_others(logits * scale[:, None], labels)
    return others.logsumexp(1) - own


def _usual_scale(logits: Tensor, large: float = LARGE) -> Tensor:
    """Scale to the :data:`TYPICAL` range for ``(B, K)`` logits, ``(B,)``; 1 where it is between SMALL and ``large``."""
    top = logits.amax(1)
    spread = top - logits.amin(1)
    body = top - logits.median(1).values  # a class ruled out by -inf or -1000 does not make the range large
    small = torch.where(spread < SMALL, TYPICAL / spread.clamp_min(1e-30), 1.0)
    return torch.where((body > large) & body.isfinite(), TYPICAL / body, small)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """``max_{k != y} logit_k - logit_y`` (Carlini & Wagner 2017): positive exactly where misclassified."""
    own, others = own_and_others(logits.float(), labels)
    return others.amax(1) - own


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, section 4): the margin over the gap between first and third.

    Undefined for fewer than three classes, where it is the margin. Invariant to the scale of the logits.
    """
    logits = logits.float()
    if logits.shape[1] < 3:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


def probability_margin(logits: Tensor, labels: Tensor, scale: Tensor | None = None) -> Tensor:
    """``max_{k != y} p_k - p_y`` of softmax probabilities (Xie et al. 2024, section 3).

    Unlike the margin's, its gradient is not blind to the other classes. Logits that are further apart than is typical are
    scaled down first, or softmax would saturate and the gradient vanish.
    """
    own, others = own_and_others(_probabilities(logits, scale), labels)
    return others.amax(1) - own


def targeted_probability_margin(logits: Tensor, aim: Tensor, scale: Tensor | None = None) -> Tensor:
    """``p_t - p_y`` for ``aim`` ``(B, 2)``, each row label y and target t (Gao et al. 2022: the minimum margin)."""
    return targeted_margin(_probabilities(logits, scale), aim)


def _probabilities(logits: Tensor, scale: Tensor | None) -> Tensor:
    logits = logits.float()
    scale = _usual_scale(logits.detach(), large=TYPICAL) if scale is None else scale
    return (logits * scale[:, None]).softmax(1)


def targeted_margin(logits: Tensor, aim: Tensor) -> Tensor:
    """``logit_t - logit_y`` for ``aim`` ``(B, 2)``, each row label y and target t."""
    logits = logits.float()
    own, other = logits.gather(1, aim).unbind(1)
    return other - own


def targeted_dlr(logits: Tensor, aim: Tensor) -> Tensor:
    """Targeted difference of logits ratio (Croce & Hein 2020, section 4.1): ``targeted_margin`` over a gap of logits.

    The gap is between the first logit and the mean of the third and the fourth. Undefined for fewer than four classes,
    where it is the margin to the target.
    """
    logits = logits.float()
    if logits.shape[1] < 4:
        return targeted_margin(logits, aim)
    top = logits.topk(4, dim=1).values
    return targeted_margin(logits, aim) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(1e-12)


def kl(logits: Tensor, reference: Tensor) -> Tensor:
    """``KL(softmax(reference) || softmax(logits))`` per example; ``reference`` is a ``(B, K)`` tensor of logits."""
    target = F.log_softmax(reference.float(), dim=1)
    return F.kl_div(F.log_softmax(logits.float(), dim=1), target, reduction="none", log_target=True).sum(1)


def own_and_others(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Label's logit ``(B,)``, and the logits with it replaced by minus infinity ``(B, K)``."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return own, logits.masked_fill(F.one_hot(labels, logits.shape[1]).bool(), -torch.inf)


# What attacks climb, by the names of the command line.
LOSSES: dict[str, Loss] = {"ce": log_odds, "margin": margin, "dlr": dlr, "probability": probability_margin}

# The same towards one class: for ``aim`` ``(B, 2)``, each row label and target.
TARGETED: dict[str, Loss] = {
    "dlr": targeted_dlr,
    "margin": targeted_margin,
    "probability": targeted_probability_margin,
}


# Those that scale logits, and from which range on.
SCALING: dict[Callable[..., Tensor], float] = {
    log_odds: LARGE,
    probability_margin: TYPICAL,
    targeted_probability_margin: TYPICAL,
}


def settle(loss: Callable[..., Tensor], clean: Callable[[], Tensor], aim: Tensor) -> tuple[Loss, Tensor]:
    """``(loss, aim)`` whose values are comparable between the iterates of an example.

    A loss that scales logits rescales every input: that is right for a direction, but its value would jump where an
    iterate's logits come into the usual range. So the scale is fixed by the clean image's logits: ``clean()`` ``(B,
    K)``. ``aim`` replaces the labels as the loss's argument; it is returned with the scale as its last column.
    """
    if loss not in SCALING:
        return loss, aim
    # The scale travels as a column of `aim` because attacks drop, repeat and reorder rows, and know only that each row has
    # a label: a closure over the scales would need an update at every such step.
    scale, alone = _usual_scale(clean().detach().float(), SCALING[loss]), aim.dim() == 1

    def settled(logits: Tensor, columns: Tensor) -> Tensor:
        own = columns[:, :-1].long()
        return loss(logits, own.squeeze(1) if alone else own, columns[:, -1])

    return settled, torch.cat([aim.view(len(aim), -1).float(), scale[:, None]], 1)


def get_loss(name: str) -> Loss:
    """Loss for attacks with ``loss=name`` (see :data:`LOSSES`); raises :class:`UnknownNameError`."""
    if name not in LOSSES:
        raise UnknownNameError(unknown("loss", name, list(LOSSES)))
    return LOSSES[name]
