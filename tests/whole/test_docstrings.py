"""Docstrings of the package: a noun of the field or a verb first, and never only a reference to another docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "robust_transfer"
INTERROGATIVE = re.compile(r"(What|Which|Who|Whom|Whose|How|Where|When|Whether|Why)\b")
REFERENCE = re.compile(r"See :\w+:`[^`]+`\.?")
PRONOUN = re.compile(r"(Those|That|This|These|It|They|Of|If|Some)\b")


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def offenders(pattern: re.Pattern[str], *, whole: bool = False) -> list[str]:
    """Places of docstrings that begin with ``pattern``, or are it as a ``whole``."""
    matches = pattern.fullmatch if whole else pattern.match
    return [
        f"{path.relative_to(PACKAGE)}:{line}: {text.splitlines()[0]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in docstrings(path.read_text(encoding="utf-8"))
        if matches(text)
    ]


def test_no_docstring_begins_with_an_interrogative() -> None:
    assert offenders(INTERROGATIVE) == []


def test_no_docstring_begins_with_a_pronoun() -> None:
    assert offenders(PRONOUN) == []


def test_no_docstring_only_refers_to_another() -> None:
    """``typing_extensions.override`` marks a method that is documented by its base class."""
    assert offenders(REFERENCE, whole=True) == []
