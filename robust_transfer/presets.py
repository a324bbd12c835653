"""Presets: named sets of defaults of a configuration."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from robust_transfer.config import build
from robust_transfer.errors import ConfigError
from robust_transfer.registry import unknown


class WithPresets:
    """Mixin of the registered configurations, for building them from loose settings."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    @abstractmethod
    def described(cls) -> str:
        """Kind and public name, for messages: ``strategy 'lwf'``."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build from loose settings, in the command line's form; explicit settings override those of ``preset=NAME``."""
        what, chosen = cls.described(), dict(settings)
        name = chosen.pop("preset", None)
        if name is not None:
            if not isinstance(name, str) or name not in cls.presets:
                known = list(cls.presets)
                raise ConfigError(unknown(f"preset of {what}", str(name), known) if known else f"{what} has no presets")
            chosen = {**cls.presets[name], **chosen}
        return build(cls, chosen, what)
