"""A small Hub, and a network to publish."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import make_source
from small_hub import Hub, small_hub

from robust_transfer.checkpoint import Checkpoint


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with small_hub(monkeypatch, tmp_path / "hub") as found:
        yield found


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return make_source(threat="linf:8/255", data={"name": "hf:acme/training"})
