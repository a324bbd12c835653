"""Training under Gaussian noise: sources whose answers survive it, and that randomised smoothing can certify."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from robust_transfer.classifier import Classifier
from robust_transfer.config import config
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining.base import PRETRAINING, Pretraining
from robust_transfer.pretraining.crafting import ONE_CLASS_BATCHES
from robust_transfer.randomness import Address, normal
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, NaturalObjective, Objective


@PRETRAINING.register(
    "noise", summary="cross-entropy under Gaussian noise, to be certified", paper="Cohen et al. 2019, section 3.3"
)
@config
class Noise(Pretraining):
    """Images plus noise of deviation ``sigma`` in every value, not clipped to [0, 1]: fresh in each step.

    Certify with the same ``sigma``. Epochs are selected by clean accuracy, without noise.
    """

    weighs: ClassVar[bool] = True
    adversarial: ClassVar[bool] = False

    sigma: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma <= 0:
            raise ConfigError(f"noise needs a positive sigma, not {self.sigma}: natural trains without it")

    @override
    def objective(self, classifier: Classifier, task: Task, threat: Threat, run: Run) -> Objective:
        return NoiseObjective(classifier, self.sigma, run.seed)


class NoiseObjective(NaturalObjective):
    """``E CE(f(x + sigma * e), y)`` with standard normal ``e``."""

    def __init__(self, classifier: Classifier, sigma: float, seed: int) -> None:
        super().__init__(classifier, collapse_patience=ONE_CLASS_BATCHES)
        self.sigma, self.seed = sigma, seed

    @override
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        address = Address(self.seed, "train/noise", step=batch.step)
        noise = normal(address, batch.ids, tuple(batch.images.shape[1:])).to(batch.images)
        logits = self.classifier(batch.images + self.sigma * noise)
        return {"loss": batch.cross_entropy(logits), "logits": logits}
