"""TRADES (Zhang et al. 2019): accuracy on natural images, and predictions that are stable under attack."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from robust_transfer import losses
from robust_transfer.attacks.base import Victim
from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.engine import Engine
from robust_transfer.errors import ConfigError
from robust_transfer.modes import without_weight_gradients
from robust_transfer.pretraining.base import PRETRAINING
from robust_transfer.pretraining.weight_perturbation import Crafting, PerturbedObjective
from robust_transfer.randomness import Address, normal
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, Objective

START = 1e-3  # standard deviation of the noise that crafting starts from: at the clean image the gradient is 0


@PRETRAINING.register(
    "trades", summary="cross-entropy plus the divergence that an attack finds", paper="Zhang et al. 2019, equation 5"
)
@config
class Trades(Crafting):
    """``CE(f(x), y) + beta * KL(p(x) || p(x'))``, ``x'`` by ``steps`` steps of ``step * eps`` up that divergence."""

    weighs: ClassVar[bool] = True
    loss_passes: ClassVar[float] = 6.0  # clean and adversarial images

    beta: float = 6.0
    steps: int = 10
    step: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.step <= 0 or self.beta < 0:
            raise ConfigError("trades needs at least one step, of positive length, and a beta that is not negative")

    @property
    @override
    def passes_per_image(self) -> float:
        return self.training_passes + 1.0 + 2.0 * self.steps

    @override
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        return TradesObjective(classifier, threat, run, beta=self.beta, steps=self.steps, step=self.step, awp=self.awp)


class TradesObjective(PerturbedObjective):
    """Mean over the batch of :class:`Trades`' loss; gradients flow through both arguments of the divergence.

    Examples are crafted in evaluation mode. Clean and adversarial images then go through the network one after the
    other, as in the released code: each has batch statistics of its own.
    """

    loss_passes: ClassVar[float] = Trades.loss_passes

    def __init__(
        self,
        classifier: Classifier,
        threat: Threat,
        run: Run,
        *,
        beta: float,
        steps: int,
        step: float,
        awp: float = 0.0,
    ) -> None:
        super().__init__(classifier, threat, awp=awp)
        self.run, self.beta, self.steps, self.step = run, beta, steps, step
        self.passes_per_image = self.training_passes + 1.0 + 2.0 * steps  # the clean logits, the attack's steps

    @override
    def craft(self, batch: Batch) -> Tensor:
        return diverging(self.classifier, batch, self.threat_at(batch), self.run, steps=self.steps, step=self.step)

    @override
    def terms(self, batch: Batch, crafted: Tensor) -> dict[str, Tensor]:
        clean, attacked = self.classifier(batch.images), self.classifier(crafted)
        cross_entropy, divergence = batch.cross_entropy(clean), batch.mean(losses.kl(attacked, clean))
        return {
            "loss": cross_entropy + self.beta * divergence,
            "cross_entropy": cross_entropy,
            "divergence": divergence,
            "logits": clean,
        }


def diverging(
    classifier: Classifier,
    batch: Batch,
    threat: Threat,
    run: Run,
    *,
    steps: int,
    step: float,
    wanted: Tensor | None = None,
) -> Tensor:
    """Images whose predictions diverge from ``wanted``, logits ``(B, K)`` (None: from those of the clean images).

    Crafted by ``steps`` steps of ``step * eps`` up ``KL(wanted || p(x'))``, the classifier in evaluation mode and restored.
    """
    x = batch.images
    # the start is so near that bfloat16 cannot tell it from the image: the first step is float32's
    exact, quick = (
        Victim(classifier, x.device, engine) for engine in (Engine(folded=False), Engine(run.dtype(), False))
    )
    address = Address(run.seed, "trades", step=batch.step)
    current = threat.project(x + START * normal(address, batch.ids, tuple(x.shape[1:])), x)
    with classifier.eval_mode(), without_weight_gradients(classifier):
        clean = exact.logits(x) if wanted is None else wanted
        for number in range(steps):
            _, gradient = (quick if number else exact).gradient(current, clean, losses.kl)
            current = threat.project(current + step * threat.eps * threat.steepest(gradient), x)
    return current.detach()
