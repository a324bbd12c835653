"""Completion of names in a shell, from the catalogue: PyTorch is not loaded for it."""

from __future__ import annotations

from collections.abc import Callable

from robust_transfer.cli.catalogue import catalogue, networks, recipes


def names_of(kind: str) -> Callable[[str], list[tuple[str, str]]]:
    """Function from what has been typed to the names of a kind that go on from there, each with a line on it."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        return [(name, line) for name, line in _all(kind) if name.startswith(incomplete)]

    return complete


def _all(kind: str) -> list[tuple[str, str]]:
    if kind == "networks":
        return list(networks().items())
    if kind == "recipes":
        return list(recipes().items())
    if kind == "sources":
        from robust_transfer.sources import PACKAGED, list_sources

        return [(name, line) for name, line in list_sources().items() if name in (*PACKAGED, "auto")]
    found = [(name, summary) for name, summary, _ in catalogue(kind)]
    return [*SUITES, *found] if kind == "attacks" else found


SUITES = [
    ("quick", "PGD of two losses"),
    ("strong", "what AutoAttack finds, at a twentieth of its cost"),
    ("autoattack", "strong, then the reference implementation"),
]
