"""Child processes that run a test file as a script."""

from __future__ import annotations

import os
from pathlib import Path


def with_helpers() -> dict[str, str]:
    """This process's environment, with the helpers of the tests on the child's path."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *([before] if before else [])])}
