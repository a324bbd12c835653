"""Hints: what no file of weights may tell, given by somebody who knows."""

from __future__ import annotations

from typing import Any

from robust_transfer.config import config
from robust_transfer.preprocessing import Normalisation
from robust_transfer.threat import Threat


@config
class Hints:
    """What no file may tell, given by somebody who knows; None: to be found out.

    ``network``: its name, with ``settings``; among them ``channels``, the order in which it reads an image's, "rgb" or
    "bgr". ``size``: side of the images in pixels. ``weights``: which of the sets of weights in the file ("best").
    ``threat``: what the network was trained for; ``threat_from``: who says so, where it is not the one who gives it.
    """

    network: str | None = None
    settings: dict[str, Any] | None = None
    normalisation: Normalisation | None = None
    size: int | None = None
    threat: Threat | None = None
    threat_from: str | None = None
    weights: str | None = None
    class_names: tuple[str, ...] | None = None
