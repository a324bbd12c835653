"""Recipes that would fill the memory, write elsewhere, or are no text: one sentence each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from study_helpers import NEAR, written

from robust_transfer.errors import ConfigError
from robust_transfer.study.reading import load_recipe
from robust_transfer.study.recipe import MOST_CELLS


def many(count: int) -> list[float]:
    return [float(number) for number in range(1, count + 1)]


NINE = {f"s{i}": many(9) for i in range(400)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": [{**NEAR, "seed": list(range(3000)), "shots": list(range(1, 3000))}]}, f"more than {MOST_CELLS:,} cells"),
        ({"strategies": {"probe": {"strategy": "linear-probe", "each": NINE}}}, "more than 100,000 combinations"),
        ({"name": "../../canary"}, "names of files"),
        ({"name": "a/b"}, "names of files"),
        ({"name": ".hidden"}, "names of files"),
        ({"name": "x" * 101}, "names of files"),
    ],
)  # fmt: skip
def test_what_could_not_run_is_refused_at_once(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_recipe(written(tmp_path, **changes), scale="smoke" if "name" in changes else None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfea", "not UTF-8"),
        (b"!!timestamp 2001-99-99", "month must be"),
        (b"&a {name: *a}", "contains itself"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_recipe_is_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as told:
        load_recipe(path)
    assert "\n" not in str(told.value)


def test_places_are_counted_in_plain_digits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a place in it"):
        load_recipe(written(tmp_path), changes=["grid.\u00b2=1"])
