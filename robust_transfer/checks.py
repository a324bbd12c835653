"""Red flags: reasons not to believe a robust accuracy (Carlini et al. 2019; Croce et al. 2022).

Each check looks at a small sample of images that the model gets right. A flag is no proof that a model is weak, it says
that the attack may have failed for another reason than robustness. docs/trust.md has what to do about each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.attacks import APGD, PGD, Square, Target
from robust_transfer.attacks.target import attacking, predicted
from robust_transfer.engine import Engine
from robust_transfer.threat import Threat

SHARE = 0.05  # of the sample: fewer examples than that raise no flag, nor do fewer than FEWEST
FEWEST = 3
HALF_GREY = Threat(norm="linf", eps=0.5)  # every image can be made grey: nothing can withstand that


@dataclass(frozen=True)
class Sample:
    """Images that the model gets right, and the model as attacks see it."""

    target: Target
    x: Tensor
    labels: Tensor
    ids: Tensor
    logits: Tensor
    threat: Threat
    engine: Engine
    seed: int

    @property
    def enough(self) -> int:
        """How many examples are too many to be chance."""
        return max(FEWEST, round(SHARE * len(self.x)))

    def attacked(self, attack: APGD | PGD | Square, threat: Threat | None = None) -> Tensor:
        """Which examples an attack breaks, ``(n,)``."""
        result = attack(self.target.model, self.x, self.labels, self.ids, threat or self.threat, seed=self.seed)
        self.target.passes += result.passes
        return result.broken


Check = Callable[[Sample], str | None]


def red_flags(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    ids: Tensor,
    threat: Threat,
    *,
    seed: int = 0,
    engine: Engine | None = None,
) -> tuple[list[str], int]:
    """``(flags, image passes)`` for a sample of images, as for :meth:`Attack.__call__`; 50 to 100 of them will do."""
    engine = engine or Engine()
    with attacking(model, x.device) as target:
        right = predicted(target.logits(x)) == labels
        x, labels, ids = x[right], labels[right], ids[right]
        if not len(x):
            return [], target.passes
        sample = Sample(target, x, labels, ids, target.logits(x), threat, engine, seed)
        return list(_raised(sample)), target.passes


def _raised(sample: Sample) -> Iterator[str]:
    for check in CHECKS:
        if (flag := check(sample)) is not None:
            yield flag
            if check is random_outputs:
                return  # nothing else can be told from single answers


# ---------------------------------------------------------------- what the model returns


def random_outputs(sample: Sample) -> str | None:
    """The same images, asked twice, get other answers."""
    first, second = sample.logits, sample.target.logits(sample.x)
    if torch.equal(first, second) or bool((first - second).abs().max() <= 1e-4 * first.abs().max()):
        return None
    return "the model is random: one answer decides nothing, average over many (EOT)"


def depends_on_the_batch(sample: Sample) -> str | None:
    """An image alone gets another answer than among others."""
    few = sample.x[:16]
    with torch.no_grad():
        together, alone = sample.target.model(few), torch.cat([sample.target.model(one[None]) for one in few])
    if bool((together - alone).abs().max() <= 1e-3 * together.abs().max().clamp_min(1e-12)):
        return None
    return "an image's logits depend on the batch it is in: statistics of the batch are used at test time"


def probabilities(sample: Sample) -> str | None:
    """Rows that are not negative and sum to one."""
    logits = sample.logits
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        return "the model returns probabilities, not logits: their gradients vanish, return what softmax is given"
    return None


def saturated(sample: Sample) -> str | None:
    """Softmax is 1 in float32: the gradient of cross-entropy is exactly 0."""
    sure = int((losses.cross_entropy(sample.logits, sample.labels) == 0).sum())
    if sure < max(sample.enough, len(sample.x) // 2):
        return None
    return (
        f"the logits are so far apart that softmax is exactly 1 on {sure} of {len(sample.x)} images: attacks that climb "
        "plain cross-entropy see no gradient (those here do)"
    )


def precision_changes_predictions(sample: Sample) -> str | None:
    """The precision of the attack's steps is another network's."""
    if sample.engine.dtype is torch.float32:
        return None
    with torch.no_grad():
        changed = int((sample.engine.of(sample.target.model)(sample.x).argmax(1) != sample.labels).sum())
    if changed < sample.enough:
        return None
    return (
        f"in {sample.engine.precision} {changed} of {len(sample.x)} predictions change: attack with --precision float32"
    )


# ---------------------------------------------------------------- what the gradient says


def no_gradient(sample: Sample) -> str | None:
    """The margin's gradient is zero, or so small that float32 loses it."""
    _, gradient = sample.target.gradient(sample.x, sample.labels, losses.margin)
    logits = sample.logits
    size = gradient.flatten(1).abs().amax(1) / (logits.amax(1) - logits.amin(1)).clamp_min(1e-30)
    flat = int((size < 1e-7).sum())
    if flat < sample.enough:
        return None
    return f"the gradient is zero or vanishing on {flat} of {len(size)} images: gradient attacks cannot see"


def loss_does_not_rise(sample: Sample) -> str | None:
    """Ten steps up the gradient come no higher than the best of ten random points."""
    x, labels, loss = sample.x, sample.labels, losses.margin
    random = torch.stack([loss(sample.target.logits(_random(sample, draw)), labels) for draw in range(10)]).amax(0)
    at, reached = x, torch.full_like(random, -torch.inf)
    for _ in range(10):
        logits, gradient = sample.target.gradient(at, labels, losses.get_loss("ce"))
        reached = torch.maximum(reached, loss(logits, labels))
        at = sample.threat.project(at + sample.threat.eps / 4 * sample.threat.steepest(gradient), x)
    reached = torch.maximum(reached, loss(sample.target.logits(at), labels))
    lower = int((reached <= random).sum())
    if lower < max(sample.enough, len(x) // 4):
        return None
    return (
        f"on {lower} of {len(x)} images ten gradient steps do no better than ten random guesses: the gradient misleads"
    )


def _random(sample: Sample, draw: int) -> Tensor:
    return sample.threat.random_start(sample.x, sample.ids, seed=sample.seed, purpose="checks", restart=draw)


# ---------------------------------------------------------------- what attacks find


def black_box_wins(sample: Sample) -> str | None:
    """Random search breaks what the gradient could not."""
    white, black = sample.attacked(APGD(steps=20)), sample.attacked(Square(queries=200))
    found = int((black & ~white).sum())
    if found < sample.enough:
        return None
    return f"an attack without gradients breaks {found} of {len(white)} images that one with gradients does not"


def withstands_everything(sample: Sample) -> str | None:
    """At half the pixel range every image can be made grey."""
    standing = int((~sample.attacked(APGD(steps=20), HALF_GREY)).sum())
    if standing < sample.enough:
        return None
    return f"at {HALF_GREY} {standing} of {len(sample.x)} images still stand, where nothing can: the attack fails"


def more_effort_finds_more(sample: Sample) -> str | None:
    """Ten times the steps, from ten starts, break much that the plain attack does not."""
    plain, more = sample.attacked(PGD(steps=20)), sample.attacked(PGD(steps=40, restarts=5))
    found = int((more & ~plain).sum())
    if found < max(sample.enough, round(0.1 * len(plain))):
        return None
    return f"ten times the effort breaks {found} of {len(plain)} images more: the attack has not converged, use strong"


CHECKS: tuple[Check, ...] = (
    random_outputs,
    depends_on_the_batch,
    probabilities,
    saturated,
    precision_changes_predictions,
    no_gradient,
    loss_does_not_rise,
    black_box_wins,
    withstands_everything,
    more_effort_finds_more,
)
