"""Base of the certifiers: from a model and images to a class and a certified radius for each."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn
from typing_extensions import override

from robust_transfer.config import config
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError
from robust_transfer.presets import WithPresets
from robust_transfer.run import Run
from robust_transfer.threat import Threat


@dataclass(frozen=True)
class Certified:
    """Result on the images of a split, in their order.

    ``classes`` ``(n,)``: what the certified classifier answers, -1 where it abstains. ``radii`` ``(n,)``: within so much of
    the image, in the certificate's norm, the answer is the same; whether it is right is another matter.
    """

    classes: NDArray[np.int64]
    radii: NDArray[np.float64]
    passes: int
    figures: dict[str, float] = field(default_factory=dict)


@config
class Certifier(WithPresets, ABC):
    """Base of the two certificates. Subclasses are configurations and implement :meth:`certify`.

    ``examples``: a stratified sample of so many images is certified, None for all that were attacked.
    """

    examples: int | None = None

    title: ClassVar[str]

    def __post_init__(self) -> None:
        if self.examples is not None and self.examples < 1:
            raise ConfigError(f"{self.title} needs at least 1 example, not {self.examples}")

    @classmethod
    @override
    def described(cls) -> str:
        return f"certificate {cls.title!r}"

    def __str__(self) -> str:
        """As the command line spells it, ``smoothing:sigma=0.5``: what is not the default stands behind the colon."""
        changed = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        settings = ",".join(f"{f.name}={getattr(self, f.name)}" for f in changed)
        return f"{self.title}:{settings}" if settings else self.title

    @abstractmethod
    def norm(self, threat: Threat) -> str:
        """Norm of the radii, beside an evaluation under ``threat``."""

    @abstractmethod
    def passes(self, n: int) -> float:
        """Image passes that ``n`` images take, about."""

    def check(self, model: nn.Module, split: Split, run: Run) -> None:
        """Raise :class:`ConfigError` for a model that there is no such certificate of."""

    @abstractmethod
    def certify(
        self, model: nn.Module, split: Split, threat: Threat, run: Run, *, state: Path | None, identity: dict[str, Any]
    ) -> Certified:
        """Certify the images of ``split``; the model is on ``run``'s device.

        What is slow keeps what it has found in the file ``state`` and goes on from there with ``run.resume``, if the
        ``identity`` is the same.
        """
