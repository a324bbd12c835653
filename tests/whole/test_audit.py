"""Audit of libraries: what was not asked about is never told as clean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import audit
import pytest

CLEAN = {"name": "jinja2", "version": "3.1.6", "vulns": []}
BAD = {"name": "pillow", "version": "1.0", "vulns": [{"id": "X-1", "fix_versions": ["2.0"], "aliases": []}]}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found and could not be audited"}
OURS = {"name": audit.OURSELVES, "skip_reason": "it is in no registry"}


@pytest.mark.parametrize(
    ("found", "status", "told"),
    [
        ([CLEAN, OURS], 0, "1 libraries, no known advisory"),
        ([CLEAN, BAD], 1, "pillow 1.0: X-1, mended in 2.0"),
        ([CLEAN, SKIPPED], 3, "1 of 2 libraries could not be asked about: torch"),
        ([BAD, SKIPPED], 1, "1 of 2 libraries could not be asked about: torch"),
        ([OURS], 3, "0 of 0 libraries could not be asked about"),
    ],
)
def test_verdicts(found: list[dict[str, object]], status: int, told: str) -> None:
    lines, said = audit.judged(json.dumps({"dependencies": found}), "")
    assert said == status
    assert told in "\n".join(lines)


def test_without_a_network_nothing_was_audited(tmp_path: Path) -> None:
    tool = tmp_path / "pip-audit"
    tool.write_text("#!/bin/sh\necho 'ConnectionError: no route to host' >&2\nexit 1\n")
    tool.chmod(0o755)
    words = [sys.executable, audit.__file__, str(tool), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == audit.NOT_ASKED
    assert "nothing was audited (ConnectionError: no route to host)" in done.stdout
