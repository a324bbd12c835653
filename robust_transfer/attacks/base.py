"""Base of all attacks: its final ``__call__`` verifies the images that a method returns.

An attack implements ``run``; the call clips the result to ball and box, checks its size, and scores it again by a
fresh float32 forward pass. That pass decides on success, never the method's own claim.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer import losses
from robust_transfer.attacks.victim import Knowledge as Knowledge  # others import it from here
from robust_transfer.attacks.victim import Victim as Victim
from robust_transfer.attacks.victim import attacking, is_broken, predicted
from robust_transfer.config import config
from robust_transfer.engine import Engine
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.presets import WithPresets
from robust_transfer.registry import Registry
from robust_transfer.threat import Threat

SURVIVAL_SHARE = 0.4  # of an attack's steps are taken, on average, before examples leave: about


@dataclass(frozen=True)
class AttackResult:
    """Result of an attack on a batch; every tensor is per example and by a fresh float32 pass.

    ``broken`` is true for an example that is misclassified when clean, or by its adversarial image beyond numerical
    noise. ``adversarial`` is in ball and box; for an example wrong when clean it is the clean image. ``prediction`` is
    the class of ``adversarial`` where broken and the label elsewhere, -1 for logits that are no numbers; ``margin`` is
    the best other logit less the label's. ``passes`` counts forward-equivalent image passes.
    Where the steps ran in another precision than float32: ``unconfirmed`` of their iterates broke the model in that
    precision only, ``missed`` examples are broken in float32 only.
    """

    adversarial: Tensor
    broken: Tensor
    margin: Tensor
    clean_prediction: Tensor
    prediction: Tensor
    passes: int
    unconfirmed: int = 0
    missed: int = 0

    def crafted(self, labels: Tensor) -> int:
        """Number of adversarial examples, as costs count them: one for each image that is right when clean.

        The others are not attacked.
        """
        return int((self.clean_prediction == labels).sum())


class BestSoFar:
    """Strongest adversarial image of each example so far: a break is never given up, survivors keep the largest margin."""

    def __init__(self, x: Tensor) -> None:
        self.images = x.clone()
        self.score = torch.full((len(x),), -torch.inf, device=x.device)

    def update(self, rows: Tensor, images: Tensor, broken: Tensor, score: Tensor) -> None:
        """Offer images of the examples in ``rows``, with what :meth:`Victim.judge` said of them."""
        # Both a break by once the noise and one by twice the noise score infinity, and only the latter is sure to be found
        # again by the final verdict: so it enters even where the scores tie. Of several images of an example the best counts.
        better = broken | (score > self.score[rows])
        rows, images, score = rows[better], images[better], score[better]
        chosen = highest(rows, score)
        self.images[rows[chosen]] = images[chosen]
        self.score[rows[chosen]] = score[chosen]


def highest(rows: Tensor, values: Tensor, count: int = 1) -> Tensor:
    """Mask of the ``count`` highest ``values`` of each row ``(B,)``; the earlier one wins a tie."""
    order = values.argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]  # by row, each with its highest first
    places = torch.arange(len(order), device=order.device)
    begins = torch.searchsorted(rows[order], rows[order])  # where the row's first is
    return torch.zeros_like(order, dtype=torch.bool).index_fill_(0, order[places - begins < count], True)


@config
class Attack(WithPresets, ABC):
    """Base of the registered attacks. Subclasses are configurations and implement :meth:`run`.

    ``count`` names the field that a number after the attack's name sets: the 20 of ``pgd-20``. ``needs_source`` is true
    for an attack that uses ``target.knowledge``: what the attacker has of the network that the model came from;
    ``needs_parts`` for one of mixtures of two networks only.
    ``batch_free`` says that on the CPU its verdict on an example depends on that example alone.
    ``gradient_free`` is true for an attack that only asks for scores.
    ``precision`` float32 runs the steps in float32 whatever the engine does elsewhere. ``eot``: each gradient is the mean
    of so many, for a model that is random (expectation over transformation, Athalye et al. 2018).
    """

    precision: Literal["auto", "float32"] = dataclasses.field(default="auto", kw_only=True)
    eot: int = dataclasses.field(default=1, kw_only=True)

    count: ClassVar[str | None] = None
    gradient_free: ClassVar[bool] = False
    needs_source: ClassVar[bool] = False
    needs_parts: ClassVar[bool] = False
    batch_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.eot < 1 or (self.gradient_free and self.eot > 1):
            needs = "takes no gradients: leave out eot" if self.gradient_free else "needs an eot of at least 1"
            raise ConfigError(f"{ATTACKS.name_of(type(self))} {needs}")

    @classmethod
    @override
    def described(cls) -> str:
        return f"attack {ATTACKS.name_of(cls)!r}"

    @abstractmethod
    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Adversarial images for ``x`` ``(B, C, H, W)``, all of them correctly classified when clean, ``B >= 1``."""

    @property
    def most_steps(self) -> int:
        """Number of gradient steps on an example that nothing breaks."""
        return int(getattr(self, "steps", 1)) * int(getattr(self, "restarts", 1))

    @property
    def passes(self) -> float:
        """Forward-equivalent image passes per image, roughly: broken examples leave early."""
        return 3.0 + SURVIVAL_SHARE * 2.0 * self.eot * self.most_steps

    def __str__(self) -> str:
        """Command-line spelling, ``pgd-20:loss=margin``: the count, then every setting that differs from its default."""
        name, settings = ATTACKS.name_of(type(self)), []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == self.count:
                name += f"-{value}"
            elif value != field.default:
                settings.append(f"{field.name}={str(value).lower() if isinstance(value, bool) else value}")
        return name + (":" + ",".join(settings) if settings else "")

    @final
    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        labels: Tensor,
        ids: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        engine: Engine | None = None,
        knowledge: Knowledge | None = None,
        answers: int = 1,
    ) -> AttackResult:
        """Attack a batch: ``x`` float32 in [0, 1]; ``labels``, ``ids`` int64 ``(B,)``.

        ``engine`` computes the steps (None: the model itself); ``knowledge`` is what the attacker has beside the
        model. The model is attacked in evaluation mode; every submodule's mode and every weight's ``requires_grad``
        are restored. On the CPU the verdicts depend neither on the batch's size and order nor on the other examples
        in it. Raises :class:`NetworkError` where the model does not return one row of logits per image.
        """
        if not len(x):
            nothing = torch.empty(0, device=x.device)
            return AttackResult(x, nothing.bool(), nothing, nothing.long(), nothing.long(), 0)
        if engine is not None and self.precision == "float32":
            engine = engine.in_float32()
        draws = max(self.eot, answers // 2)
        with (
            torch.inference_mode(False),
            attacking(model, x.device, engine, knowledge, len(x), x.shape[-1], draws, answers) as target,
        ):
            # inside, a caller's inference tensors would refuse to carry gradients
            x, labels, ids = (t.clone() if t.is_inference() else t for t in (x, labels, ids))
            return self._attack(target, x, labels, ids, threat, seed)

    def _attack(
        self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int
    ) -> AttackResult:
        logits = target.logits(x)
        if logits.shape[1] < 2 or int(labels.max()) >= logits.shape[1]:
            raise NetworkError(f"the model tells {logits.shape[1]} classes apart, but a label is {int(labels.max())}")
        clean_prediction = predicted(logits)
        right = (clean_prediction == labels).nonzero().squeeze(1)
        adversarial = x.clone()
        if len(right) and threat.eps > 0:
            found = self.run(target, x[right], labels[right], ids[right], threat, seed)
            adversarial[right] = _inside(found, x[right], threat)
            logits[right] = target.logits(adversarial[right])
        broken = (clean_prediction != labels) | is_broken(logits, labels)
        prediction = torch.where(broken, predicted(logits), labels)
        margin, missed = losses.margin(logits, labels), 0
        if target.engine.dtype is not torch.float32 and len(right):
            seen = is_broken(target.guess(adversarial[right]), labels[right])
            missed = int((broken[right] & ~seen).sum())
        return AttackResult(
            adversarial, broken, margin, clean_prediction, prediction, target.passes, target.unconfirmed, missed
        )


def _inside(found: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """``found`` clipped to the ball and the box around ``x``; values that are not numbers become the clean image."""
    if not isinstance(found, Tensor) or found.shape != x.shape:
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"an attack must return images of the shape it was given, {tuple(x.shape)}, not {what}")
    finite = found.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
    inside = threat.project(torch.where(finite, found, x).detach().float(), x)
    too_large = threat.size(inside - x) > threat.eps * (1 + 1e-4) + 1e-6
    return torch.where(too_large.view(-1, 1, 1, 1), x, inside)


ATTACKS: Registry[Attack] = Registry("attack", group="robust_transfer.attacks")
