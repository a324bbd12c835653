"""Commands print by one function, which leaves nothing in a name that a terminal obeys."""

from __future__ import annotations

import ast
from pathlib import Path

import robust_transfer

ROOT = Path(robust_transfer.__file__).parent
ALLOWED = {
    "cli/base.py": 2,
    "drop_in/autoattack.py": 1,
    "messages.py": 1,
}  # the version, the error; a log's line; the function


def prints(path: Path) -> int:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return sum(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)


def test_nothing_else_prints() -> None:
    found = {path.relative_to(ROOT).as_posix(): prints(path) for path in sorted(ROOT.rglob("*.py"))}
    assert {name: count for name, count in found.items() if count} == ALLOWED, "use robust_transfer.messages.show"
