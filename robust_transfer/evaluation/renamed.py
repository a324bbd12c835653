"""Argument names of earlier versions, accepted for one release."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from robust_transfer.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

ARGUMENTS = {"beyond": "transfer_attack_examples", "checked": "red_flag_examples", "budget": "time_limit"}
FIELDS = {"checked": "red_flag_examples"}  # of evaluation.json
RECIPE = {"beyond": "transfer_attack_examples", "checks": "red_flag_examples"}  # of a recipe's evaluations


def accepting(names: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Function that also takes the old ``names`` of its keyword arguments, with a warning."""

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def renaming(*args: P.args, **given: P.kwargs) -> R:
            settings: Any = translated(given, names, f"{function.__name__}()", warn=True)
            return function(*args, **settings)

        return renaming

    return decorated


def translated(given: Mapping[str, Any], names: Mapping[str, str], what: str, *, warn: bool) -> dict[str, Any]:
    """``given`` with new names in place of old ones; raises :class:`ConfigError` where it has both."""
    found = dict(given)
    for old, new in names.items():
        if old not in given:
            continue
        if new in given:
            raise ConfigError(f"{what}: {old} is the old name of {new}: give {new} only")
        found[new] = found.pop(old)
        if warn:
            warnings.warn(sentence(what, old, new), FutureWarning, stacklevel=3)
    return found


def sentence(what: str, old: str, new: str) -> str:
    """Warning for an old name."""
    return f"{what}: {old} is now called {new}; the old name goes with the next release"
