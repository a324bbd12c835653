"""Record of a certificate: certified accuracy over the radius, what it holds for, and what it has cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robust_transfer.statistics.intervals import Proportion
from robust_transfer.threat import Threat

RADII, CLASSES = "radius of ", "class of "  # columns of the outcomes: one of each for every certificate, by its name
SHOWN = (0.25, 0.5, 0.75, 1.0)  # l2 radii, of images in [0, 1]


@dataclass(frozen=True)
class CertifiedShare:
    """Share of the images whose right answer is certified within ``radius``."""

    radius: float
    certified_accuracy: Proportion


@dataclass(frozen=True)
class Certificate:
    """Certificate of a classifier on images.

    ``name`` has what is not a default, ``settings`` all there is. Radii are in ``norm``. ``clean_accuracy`` is that of what
    is certified: the smoothed classifier, for which abstaining counts as wrong, or the network itself. ``own``: the share
    that is certified against the evaluation's ``threat``, at the radius that this takes (``pixels`` values an image:
    ``linf:eps`` lies within ``l2: eps * sqrt(pixels)``). ``alpha``: probability that the statement on one image is wrong;
    0 for what is proved. ``vacuous``: the sentence that says so, with the numbers, where nothing at all is certified.
    """

    name: str
    settings: dict[str, Any]
    threat: str
    norm: str
    pixels: int
    n: int
    seed: int
    clean_accuracy: Proportion
    abstained: Proportion
    own: CertifiedShare
    curve: list[CertifiedShare]
    alpha: float
    passes: int
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)
    vacuous: str = ""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Certificate:
        """From the plain types of JSON, in which shares are :class:`Proportion` already."""
        curve = [CertifiedShare(**each) for each in stored["curve"]]
        return cls(**{**stored, "own": CertifiedShare(**stored["own"]), "curve": curve})

    @property
    def smooths(self) -> bool:
        """True if not the network itself is certified, but what it answers under noise."""
        return self.alpha > 0

    @property
    def what(self) -> str:
        """Certificate's name and method, in words."""
        if not self.smooths:
            return f"the network itself, {self.norm}, {self.n} images"
        how = self.settings
        return (
            f"the network smoothed by noise of sigma {how['sigma']:g}, l2, {self.n} images, {how['n']:,} draws each and "
            f"{how['n0']:,} to choose a class"
        )

    @property
    def confidence(self) -> str:
        """Confidence of one image's radius, and of all radii together, in words."""
        if not self.smooths:
            return "a proof, in exact arithmetic"
        each, together = 100 * (1 - self.alpha), 100 * (1 - self.alpha * self.n)
        joint = f"at least {together:.4g} %" if together > 0 else "no more than chance"
        return f"each image's radius with confidence {each:.6g} %, all {self.n} of them together with {joint}"

    @property
    def conversion(self) -> str:
        """Sentence on what the radii say of the evaluation's threat, where that is in another norm; else nothing."""
        if self.threat.startswith(self.norm):
            return ""
        return f"an l2 radius R covers linf eps <= R / sqrt({self.pixels}) only: {self.threat} takes R = {self.own.radius:.3g}"

    @property
    def limit(self) -> str:
        """Sentence on the largest radius that so many draws can show."""
        if not self.smooths:
            return ""
        return f"with {self.settings['n']:,} draws no radius is larger than {self.figures['largest_radius']:.3g}"

    def lines(self) -> list[str]:
        """Lines for people."""
        title = f"certificate      {self.name}: {self.what}"
        if self.vacuous:
            return [title, f"                 vacuous: {self.vacuous}", self._cost()]
        beside = [
            f"smoothed, clean  {self.clean_accuracy}",
            f"abstains         {self.abstained}  (counted as wrong)",
        ]
        own = f"certified        {self.own.certified_accuracy}  ({self.threat})"
        shares = [f"certified {self.radius(each):<7}{each.certified_accuracy}" for each in self.curve]
        told = [
            f"                 {sentence}" for sentence in (self.conversion, self.limit, self.confidence) if sentence
        ]
        return [title, *(beside if self.smooths else []), own, *shares, *told, self._cost()]

    def radius(self, share: CertifiedShare) -> str:
        """Radius as text: that of a linf ball in 255ths, as in a threat."""
        return str(Threat(norm=self.norm, eps=share.radius)).partition(":")[2]

    def _cost(self) -> str:
        return f"                 cost: {self.passes:,} image passes in {self.seconds:,.1f} s"
