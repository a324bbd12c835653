"""``doctor`` on the command line."""

from __future__ import annotations

import json

import pytest
from cli_helpers import Invoke

from robust_transfer.doctor import diagnosis
from robust_transfer.doctor.self_test import Check


def test_it_prints_what_it_finds(invoke: Invoke) -> None:
    status, out, _ = invoke("doctor", "--no-self-test", "--json", "--quiet")
    found = json.loads(out)
    assert status == 0
    assert {"versions", "hardware", "caches", "extras", "speeds", "advice", "checks"} <= set(found)
    assert found["speeds"][0]["name"] == "float32"


def test_a_failed_check_is_the_exit_status(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "speeds", lambda *_, **__: [])
    monkeypatch.setattr(diagnosis, "self_test", lambda _: [Check("it adds up", "it does not", 0.0)])
    status, out, _ = invoke("doctor", "--quiet")
    assert status == 1
    assert "FAILED it adds up (0.0 s): it does not" in out
