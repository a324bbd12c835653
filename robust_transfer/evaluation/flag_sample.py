"""Sample of images on which red flags are looked for, and how many of them raise one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from robust_transfer.attacks import Attack, AttackResult, Victim
from robust_transfer.engine import Engine
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.threat import Threat

FLAGGED_SHARE = 0.05  # of the sample: fewer examples than that raise no flag, nor do fewer than MIN_FLAGGED
MIN_FLAGGED = 3
PLAIN = Engine(folded=False, tight=True)  # the model itself computes the steps


@dataclass(frozen=True)
class Sample:
    """Correctly classified images, and the model as attacks see it."""

    target: Victim
    x: Tensor
    labels: Tensor
    ids: Tensor
    logits: Tensor
    adversary: Adversary
    broken: Tensor
    by_gradients: Tensor

    @property
    def threat(self) -> Threat:
        """Threat of the evaluation."""
        return self.adversary.threat

    @property
    def enough(self) -> int:
        """Smallest count of examples that raises a flag."""
        return max(MIN_FLAGGED, round(FLAGGED_SHARE * len(self.x)))

    def of(self, mask: Tensor) -> Sample:
        """Sample of a subset of the images."""
        some = {name: getattr(self, name)[mask] for name in ("x", "labels", "ids", "logits", "broken", "by_gradients")}
        return replace(self, **some)

    def attacked(self, attack: Attack, threat: Threat | None = None) -> Tensor:
        """Mask ``(n,)`` of the examples that an attack breaks, with the model's own gradients in float32."""
        some = (self.target.model, self.x, self.labels, self.ids, threat or self.threat)
        return self._count(attack(*some, seed=self.adversary.seed, engine=PLAIN))

    def crafted(self, attack: Attack, answers: int) -> Tensor:
        """Adversarial images of an attack on a random model, by mean gradients and the mean of so many ``answers``."""
        some = (self.target.model, self.x, self.labels, self.ids, self.threat)
        found = attack(*some, seed=self.adversary.seed, engine=PLAIN, answers=answers)
        self.target.passes += found.passes
        return found.adversarial

    def attacked_again(self, attack: Attack) -> Tensor:
        """Mask ``(n,)`` of the examples that one of the adversary's attacks breaks, computed by the adversary's engine."""
        return self._count(self.adversary.run(attack, self.target.model, self.x, self.labels, self.ids))

    def _count(self, result: AttackResult) -> Tensor:
        self.target.passes += result.passes
        return result.broken


Check = Callable[[Sample], str | None]
