"""Objective of adversarial training: cross-entropy on examples crafted against the current network."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from robust_transfer import losses
from robust_transfer.attacks import FGSM, PGD, Attack
from robust_transfer.attacks.base import Victim
from robust_transfer.classifier import Classifier
from robust_transfer.data import Split, to_pixels
from robust_transfer.engine import Engine
from robust_transfer.modes import without_weight_gradients
from robust_transfer.pretraining.weight_perturbation import PerturbedObjective
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch


class AdversarialObjective(PerturbedObjective):
    """``E CE(f(x'), y)`` with ``x'`` from ``steps`` steps of ``step * eps`` from a random start (Madry et al. 2018).

    Examples are crafted in evaluation mode, so that an attack neither sees nor moves batch statistics, and trained on
    in training mode. With one step this is fast adversarial training (Wong et al. 2020); then ``guarded`` images (if
    given) are watched for catastrophic overfitting and the answer to it is one more step, of at most 1.5 eps in all.
    """

    steps: Tensor

    def __init__(
        self,
        classifier: Classifier,
        threat: Threat,
        run: Run,
        *,
        steps: int,
        step: float,
        guarded: Split | None = None,
        awp: float = 0.0,
    ) -> None:
        super().__init__(classifier, threat, awp=awp)
        self.run, self.step, self.guarded = run, step, guarded
        self.register_buffer("steps", torch.tensor(steps))
        self.max_reactions = 3 if guarded is not None else 0

    @property
    def passes_per_image(self) -> float:  # type: ignore[override]
        """Passes of the training step, and 2 for each attack step."""
        return self.training_passes + 2.0 * int(self.steps)

    @override
    def craft(self, batch: Batch) -> Tensor:
        classifier, threat = self.classifier, self.threat_at(batch)
        target = Victim(classifier, batch.images.device, Engine(self.run.dtype(), folded=False))
        current = threat.random_start(batch.images, batch.ids, seed=self.run.seed, purpose="train", step=batch.step)
        step = self.step
        if self.guarded is not None and int(self.steps) > 1:  # steps that were added by the guard are shorter
            step = min(step, 1.5 / int(self.steps))
        with classifier.eval_mode(), without_weight_gradients(classifier):
            for _ in range(int(self.steps)):
                _, gradient = target.gradient(current, batch.labels, losses.cross_entropy)
                current = threat.project(current + step * threat.eps * threat.steepest(gradient), batch.images)
        return current.detach()

    @override
    def terms(self, batch: Batch, crafted: Tensor) -> dict[str, Tensor]:
        logits = self.classifier(crafted)
        return {"loss": batch.cross_entropy(logits), "logits": logits}

    def guard(self) -> tuple[str | None, dict[str, float]]:
        """Catastrophic overfitting: FGSM accuracy stays high, PGD accuracy collapses (Wong et al. 2020, 5.3)."""
        if self.guarded is None:
            return None, {}
        engine = Engine(self.run.dtype())  # one, so that both attack the same copy of the network
        fgsm, pgd = (self._accuracy(attack, engine) for attack in (FGSM(), PGD(steps=5, step=0.5)))
        figures = {"guard_fgsm_accuracy": fgsm, "guard_pgd_accuracy": pgd}
        overfits = fgsm - pgd > 0.15 and pgd < 0.5 * fgsm
        what = f"catastrophic overfitting (FGSM accuracy {fgsm:.2f}, PGD-5 accuracy {pgd:.2f})" if overfits else None
        return what, figures

    def react(self) -> str:
        """Add one attack step."""
        self.steps += 1
        return f"adversarial examples now take {int(self.steps)} steps"

    def _accuracy(self, attack: Attack, engine: Engine) -> float:
        assert self.guarded is not None
        device = self.classifier.device
        labels, ids = self.guarded.labels.to(device), self.guarded.ids.to(device)
        x = to_pixels(self.guarded.images(), device)
        result = attack(self.classifier, x, labels, ids, self.threat, seed=self.run.seed, engine=engine)
        self.spent += result.passes
        return 1 - float(result.broken.float().mean())
