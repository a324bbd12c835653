"""Hints: a user's statements on settings that a file of weights may not contain."""

from __future__ import annotations

from typing import Any

from robust_transfer.config import config
from robust_transfer.preprocessing import Normalisation
from robust_transfer.threat import Threat


@config
class Hints:
    """User's statements on settings that a file may not contain; None: to be determined.

    ``network``: its name, with ``settings``; among them ``channels``, the order of its input channels, "rgb" or
    "bgr". ``size``: side of the images in pixels. ``weights``: one of several sets of weights in the file ("best").
    ``threat``: the threat that the network was trained for; ``threat_from``: the origin of that statement, if not the
    user.
    """

    network: str | None = None
    settings: dict[str, Any] | None = None
    normalisation: Normalisation | None = None
    size: int | None = None
    threat: Threat | None = None
    threat_from: str | None = None
    weights: str | None = None
    class_names: tuple[str, ...] | None = None
