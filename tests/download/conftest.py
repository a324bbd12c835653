"""Shared by the tests of downloads: a site, and waits that are noted and not waited."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from web import Site, serving

from robust_transfer.download import transfer


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as site:
        yield site


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited between tries."""
    waits = list[float]()
    monkeypatch.setattr(transfer, "_wait", waits.append)
    return waits
