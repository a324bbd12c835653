"""The catalogue that is read from the source files is what is registered once they are imported."""

from __future__ import annotations

from importlib import import_module

import pytest

from robust_transfer import networks
from robust_transfer.cli import catalogue
from robust_transfer.study import packaged


@pytest.mark.parametrize("kind", catalogue.REGISTRIES)
def test_the_files_say_what_is_registered(kind: str) -> None:
    package, name = catalogue.REGISTRIES[kind]
    registry = getattr(import_module(f"robust_transfer.{package}"), name)
    assert len(registry) > 2
    assert catalogue.catalogue(kind) == [(entry.name, entry.summary, entry.paper) for entry in registry]


def test_the_recipes_are_listed() -> None:
    assert len(packaged()) > 5
    assert catalogue.recipes() == packaged()


def test_our_networks_are_listed() -> None:
    assert len(networks.available()) > 10
    assert catalogue.networks() == networks.available()
