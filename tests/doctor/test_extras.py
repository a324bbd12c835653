"""Extras: all of them, and what is missing."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from robust_transfer.doctor.extras import ADDS, extras

FOR_DEVELOPERS = {"dev", "bench", "browser", "docs"}


def test_every_extra_is_told() -> None:
    known = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert set(ADDS) == set(known) - FOR_DEVELOPERS


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=2", 'ray>=2.40; extra == "ray"', 'open_clip_torch>=2; extra == "clip"', 'mypy; extra == "dev"']
    monkeypatch.setattr(metadata, "requires", lambda _: wanted)

    def version(name: str) -> str:
        if name == "ray":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", version)
    found = {extra.name: extra for extra in extras()}
    assert found["ray"].missing == ("ray",)
    assert found["clip"].missing == ()
