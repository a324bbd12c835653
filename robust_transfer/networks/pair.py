"""Two networks as one body: their features side by side."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robust_transfer.errors import NetworkError

PREFIX = NAME = "pair"
PARTS = ("first", "second")


class Pair(nn.Module):
    """Penultimate features of two networks on the same normalised images, ``(B, d1 + d2)``."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """Features of normalised images."""
        return torch.cat([self.first(x), self.second(x)], 1)


def settings_of(*parts: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Settings of the pair of two networks, each given by its name and its own settings."""
    return {place: {"name": name, "settings": settings} for place, (name, settings) in zip(PARTS, parts, strict=True)}


def parts_of(name: str, settings: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings of the networks that one is made of: itself, or those of a pair, or of a pair of pairs."""
    if name != NAME:
        return [(name, settings)]
    return [part for place in PARTS for part in parts_of(settings[place]["name"], settings[place]["settings"])]


def canonical(name: str) -> str:
    """The one name that there is. Raises :class:`NetworkError` for another."""
    if name != NAME:
        raise NetworkError(f"there is no network {name!r}; that of two networks is called {NAME!r}")
    return NAME


def create(name: str, input_size: int, **settings: Any) -> nn.Module:
    """Both networks, without heads, from ``first`` and ``second``: each with its ``name`` and ``settings``."""
    from robust_transfer.networks.names import create as one  # which knows this file

    if settings.keys() != set(PARTS) or any(part.keys() != {"name", "settings"} for part in settings.values()):
        raise ValueError("a pair has the settings first and second, each with a name and settings")
    made = (
        one(settings[place]["name"], num_classes=0, input_size=input_size, **settings[place]["settings"])
        for place in PARTS
    )
    return Pair(*made)
