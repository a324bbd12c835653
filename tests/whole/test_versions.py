"""Version matrix: what the page shows is what the record says, and rows replace rows of the same case only."""

from __future__ import annotations

from typing import Any

import pytest
import versions
from environments import Wanted
from page import PAGE
from record import read


def row(environment: str, threads: int, **more: Any) -> dict[str, Any]:
    known = {"environment": environment, "python": "3.11.7", "torch": "2.11.0", "processes": 1, "threads": threads}
    found = {"bit-equal": 7, "within tolerance": 0, "differs": 0}
    return {**known, "precision": "float32", "kernels": "all", **found, "others": [], **more}


def test_the_page_shows_the_record() -> None:
    (record,) = (each for each in read() if each.name == versions.NAME)
    text = PAGE.read_text(encoding="utf-8")
    assert versions.with_matrix(text, record) == text, "run: python campaigns/versions.py"
    assert not record.failed


def test_a_row_replaces_that_of_its_case_only() -> None:
    first = versions.merged([], [row("a:oldest", 1), row("a:oldest", 2), row("b:newest", 1)])
    second = versions.merged([first], [row("a:oldest", 2, differs=1)])
    assert [(each["environment"], each["threads"], each["differs"]) for each in second.cases] == [
        ("a:oldest", 1, 0), ("a:oldest", 2, 1), ("b:newest", 1, 0)
    ]  # fmt: skip
    assert not first.failed
    assert second.failed


def test_failed_tests_fail_the_record() -> None:
    counts = {"passed": 3, "failed": 1, "skipped": 0}
    tests = {"environment": "a:oldest", "python": "3.11.7", "torch": "2.11.0", "tests": counts}
    made = versions.merged([], [row("a:oldest", 1), tests])
    assert made.failed
    assert "3 passed, 1 failed, 0 skipped" in versions.matrix(made).splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "name"), [("python3.13:newest", "python3.13:newest"), ("/a/b/python:2.14.1", "python:2.14.1")]
)
def test_names_of_environments(text: str, name: str) -> None:
    assert str(Wanted.parse(text)) == name


@pytest.mark.parametrize("text", ["python3.13", ":newest", "python:"])
def test_what_is_no_environment_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="write PYTHON:LIBRARIES"):
        Wanted.parse(text)
