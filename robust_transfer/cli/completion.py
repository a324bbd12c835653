"""Completion of values in a shell, from the catalogue: PyTorch is not loaded for it.

Every text or path that a command takes has one of these as its ``autocompletion``, so that none is forgotten. Where nothing is
offered, the shell completes names of files itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from robust_transfer.cli.catalogue import catalogue, networks, normalisations, recipes

Offer = Callable[
    [str], list[tuple[str, str]]
]  # from what has been typed to names that go on from there, each with a line


def names_of(kind: str) -> Offer:
    """Names of a kind, such as ``strategies``. Several attacks are joined by ``+``: the last of them is completed."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        before, plus, typed = incomplete.rpartition("+") if kind == "attacks" else ("", "", incomplete)
        return [(f"{before}{plus}{name}", line) for name, line in _all(kind) if name.startswith(typed)]

    return complete


def or_folders(names: Offer) -> Offer:
    """``names``, and the folders here that go on from what has been typed; where no name does, the shell's own files."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        found = names(incomplete)
        return [*found, *_folders(incomplete)] if found else []

    return complete


def one_of(*values: str) -> Offer:
    """Completion by given values: all there are, or examples of what may be written."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        return [(value, "") for value in values if value.startswith(incomplete)]

    return complete


def files(incomplete: str) -> list[tuple[str, str]]:
    """Nothing: the shell knows files and folders better, ``~`` and names with spaces included."""
    return []


def anything(incomplete: str) -> list[tuple[str, str]]:
    """Nothing: nobody knows what it could be, such as the name of a column."""
    return []


def _all(kind: str) -> list[tuple[str, str]]:
    if kind == "networks":
        return list(networks().items())
    if kind == "normalisations":
        return [(name, "") for name in normalisations()]
    if kind == "recipes":
        return list(recipes().items())
    if kind == "sources":
        from robust_transfer.sources import PACKAGED, list_sources

        return [(name, line) for name, line in list_sources().items() if name in (*PACKAGED, "auto")]
    if kind == "trackers":
        from robust_transfer.tracking import TRACKERS

        return [(name, "") for name in TRACKERS]
    found = [(name, summary) for name, summary, _ in catalogue(kind)]
    return [*SUITES, *found] if kind == "attacks" else found


def _folders(incomplete: str) -> list[tuple[str, str]]:
    try:
        with os.scandir(Path.cwd()) as found:
            names = sorted(each.name for each in found if each.is_dir())
    except OSError:  # it was removed, or may not be read
        return []
    return [(f"{name}/", "a folder here") for name in names if name.startswith(incomplete) and name[0] != "."]


SUITES = [
    ("quick", "PGD of two losses"),
    ("strong", "what AutoAttack finds, at a twentieth of its cost"),
    ("autoattack", "strong, then the reference implementation"),
]
DEVICES = one_of("auto", "cpu", "cuda", "mps")
DATA = or_folders(one_of("builtin:digits"))
MODELS = or_folders(names_of("sources"))
LICENCES = one_of("mit", "apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "other")
SPLITS = one_of("test", "val", "train")
THREATS = one_of("linf:8/255", "linf:4/255", "linf:2/255", "l2:0.5", "l2:1", "l2:3")
TIMES = one_of("90s", "5m", "1h")
CERTIFICATES = one_of("smoothing", "feature-shift", "smoothing:sigma=0.5,n=10000")
