"""Randomised smoothing (Cohen, Rosenfeld & Kolter 2019): the class that a network gives most often under Gaussian noise.

If noise of deviation ``sigma`` leaves the class with probability ``p > 1/2``, no change of the image by less than
``sigma * Phi^-1(p)`` in l2 makes another class the most frequent one (theorem 1). ``p`` is bounded from below by counting.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import beta
from torch import Tensor, nn
from typing_extensions import override

from robust_transfer.attacks.victim import Victim, attacking, predicted
from robust_transfer.certification.base import Certified, Certifier
from robust_transfer.certification.state import Progress
from robust_transfer.config import config
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError
from robust_transfer.progress import stage
from robust_transfer.randomness import Address, normal_with_tails
from robust_transfer.run import Run
from robust_transfer.threat import Threat

SELECTION, ESTIMATION = "certificate/selection", "certificate/estimation"
PASS, BLOCK = 1024, 8192  # noisy images made at a time; of so many, at least, what was found is noted together
DRAWS = 2**32  # more than anybody draws of an image: (example, draw) is one number


@config
class Smoothing(Certifier):
    """``n0`` draws choose a class, ``n`` others bound its probability from below with confidence ``1 - alpha``.

    The noise is not clipped to [0, 1]: the theorem is about Gaussian noise. With all ``n`` draws alike the radius is
    ``sigma * Phi^-1(alpha^(1/n))`` and no larger: 0.62 for the defaults, 0.95 for ``n=100000``, Cohen et al.'s.
    """

    sigma: float = 0.25
    n: int = 1000
    n0: int = 100
    alpha: float = 0.001

    title: ClassVar[str] = "smoothing"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma <= 0:
            raise ConfigError(f"smoothing needs a positive sigma, not {self.sigma}")
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f"alpha is the probability of a wrong statement, above 0 and below 0.5, not {self.alpha}")
        if not (1 <= self.n0 < DRAWS and 1 <= self.n < DRAWS):
            raise ConfigError(f"smoothing needs between 1 and 2^32 draws, not n0={self.n0}, n={self.n}")

    @override
    def norm(self, threat: Threat) -> str:
        return "l2"

    @override
    def passes(self, n: int) -> float:
        return float(n) * (self.n0 + self.n)

    @override
    def certify(
        self, model: nn.Module, split: Split, threat: Threat, run: Run, *, state: Path | None, identity: dict[str, Any]
    ) -> Certified:
        found = Progress(len(split), state, identity, resume=run.resume)
        device, pending = run.torch_device(), found.pending
        together = max(1, BLOCK // self.n)
        with (
            attacking(model, device, most=PASS, size=split.size) as target,
            stage(f"certifying, {self}", len(pending), run.quiet, each=self.n0 + self.n) as bar,
        ):
            for at in range(0, len(pending), together):
                rows, before = pending[at : at + together], target.passes
                bar.begin(len(rows))
                x, _, ids = split.subset(torch.from_numpy(rows)).on(device)
                chosen = self.counts(target, x, ids, self.n0, Address(run.seed, SELECTION)).argmax(1)
                counts = self.counts(target, x, ids, self.n, Address(run.seed, ESTIMATION))
                own = counts.gather(1, chosen[:, None])[:, 0]
                found.note(rows, chosen.cpu().numpy(), own.cpu().numpy(), target.passes - before)
                bar.advance(len(rows))
        found.write()
        return self.certified(found.classes, found.counts, found.passes)

    def certified(self, classes: NDArray[np.int64], counts: NDArray[np.int64], passes: int = 0) -> Certified:
        """Radii of ``classes`` that came ``counts`` times in ``n`` draws; no answer where half or less can be relied on."""
        least = lower_bound(counts, self.n, self.alpha)
        sure = least > 0.5
        radii = np.where(sure, self.sigma * ndtri(np.where(sure, least, 0.5)), 0.0)
        return Certified(np.where(sure, classes, -1), radii, passes)

    def counts(self, target: Victim, x: Tensor, ids: Tensor, draws: int, address: Address) -> Tensor:
        """Counts of each class under noise, ``(B, K)``; draws whose logits are no numbers count for no class.

        The noise of an image's draw depends on the address, its id and the draw's number alone.
        """
        examples = torch.arange(len(x), device=x.device).repeat_interleave(draws)
        numbers = torch.arange(draws, device=x.device).repeat(len(x))
        answers = []
        for rows, draw in zip(examples.split(PASS), numbers.split(PASS), strict=True):
            noise = normal_with_tails(address, ids[rows] * DRAWS + draw, tuple(x.shape[1:]))
            logits = target.logits(x[rows] + self.sigma * noise)
            answers.append(predicted(logits))
        classes = logits.shape[1]
        places = examples * (classes + 1) + torch.cat(answers) + 1  # the first of each is for no numbers
        return torch.bincount(places, minlength=len(x) * (classes + 1)).view(len(x), classes + 1)[:, 1:]


def lower_bound(successes: ArrayLike, n: int, alpha: float) -> NDArray[np.float64]:
    """Lower end of the one-sided interval of Clopper & Pearson (1934) for a probability, at confidence ``1 - alpha``."""
    k = np.asarray(successes)
    return np.where(k > 0, beta.ppf(alpha, np.maximum(k, 1), n - k + 1), 0.0)


def largest_radius(sigma: float, n: int, alpha: float) -> float:
    """Radius of an image on which all ``n`` draws agree: no image has a larger one."""
    return sigma * float(ndtri(math.exp(math.log(alpha) / n)))
