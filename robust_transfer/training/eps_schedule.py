"""Growth of a threat's eps over training: for sources that adversarial examples of full size would ruin."""

from __future__ import annotations

import dataclasses

from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat


@config
class EpsSchedule:
    """Eps is ``start`` times the threat's for the first ``hold`` of training, and grows linearly over the next ``ramp``.

    All three are shares; after that it is the threat's own, as it is throughout where ``hold`` and ``ramp`` are 0.
    """

    start: float = 0.0
    hold: float = 0.0
    ramp: float = 0.0

    def __post_init__(self) -> None:
        if min(self.start, self.hold, self.ramp) < 0 or max(self.start, self.hold + self.ramp) > 1:
            raise ConfigError("eps_start, and eps_hold and eps_ramp together, are shares from 0 to 1")
        if self.start and not self.active:
            raise ConfigError("eps_start has no effect without eps_hold or eps_ramp: give one of them")

    @property
    def active(self) -> bool:
        """True if eps is ever another than the threat's."""
        return self.hold + self.ramp > 0

    def share(self, done: float) -> float:
        """Share of the threat's eps once ``done``, a share from 0 to 1, of training lies behind."""
        if done < self.hold:
            return self.start
        if done >= self.hold + self.ramp:
            return 1.0
        return self.start + (1 - self.start) * (done - self.hold) / self.ramp

    def at(self, threat: Threat, done: float) -> Threat:
        """``threat`` with the eps of that moment."""
        return dataclasses.replace(threat, eps=threat.eps * self.share(done)) if self.active else threat
