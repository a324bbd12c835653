"""Certifiers by name: ``smoothing``, ``smoothing:sigma=0.5,n=10000``, ``feature-shift``, several joined with ``+``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from robust_transfer.attacks.naming import JOINED, inline_settings
from robust_transfer.certification.base import Certifier
from robust_transfer.certification.feature_shift import FeatureShift
from robust_transfer.certification.smoothing import Smoothing
from robust_transfer.config import expect
from robust_transfer.errors import UnknownNameError
from robust_transfer.registry import unknown

CERTIFIERS: dict[str, type[Certifier]] = {cls.title: cls for cls in (Smoothing, FeatureShift)}


def parse_certifiers(text: str | Certifier | Sequence[Certifier]) -> list[Certifier]:
    """Certifiers that ``text`` names; one that is named twice is run once.

    Raises :class:`UnknownNameError` for an unknown name and :class:`ConfigError` for settings that do not fit.
    """
    if isinstance(text, str):
        found = [_one(part.strip()) for part in re.split(JOINED, text)]
    elif isinstance(text, Certifier):
        found = [text]
    else:
        expect("certify", text, str, Certifier, Sequence, hint="such as 'smoothing' or Smoothing(sigma=0.5)")
        for each in text:
            expect("each of several certificates", each, Certifier, hint="such as Smoothing(sigma=0.5)")
        found = list(text)
    return list({str(each): each for each in found}.values())


def _one(text: str) -> Certifier:
    name, colon, tail = text.partition(":")
    if name not in CERTIFIERS:
        raise UnknownNameError(unknown("certificate", name, list(CERTIFIERS)))
    settings = inline_settings(tail, text, "certificate", "smoothing:sigma=0.5") if colon else {}
    return CERTIFIERS[name].from_settings(settings)
