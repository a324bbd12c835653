"""Labels of text tables: numbers where all are, names otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from robust_transfer.data.formats.row_labels import is_empty, numbers_or_names
from robust_transfer.errors import DataError


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["10", "2", "-1", "0"], [10, 2, -1, 0]),
        (["01", "2"], ["01", "2"]),
        (["1", "cat"], ["1", "cat"]),
        (["1.0", "10.0"], [1, 10]),
        (["NA", "1"], ["NA", "1"]),
        (["9" * 30, "1"], ["9" * 30, "1"]),
        ([3, 1], [3, 1]),
        ([True, False], ["true", "false"]),
        (["x", "1.5"], ["x", "1.5"]),
    ],
)
def test_numbers_where_all_are(cells: list[Any], values: list[Any]) -> None:
    found, notes = numbers_or_names(cells)
    assert (found, [type(each) for each in found]) == (values, [type(each) for each in values])
    assert bool(notes) == (cells[0] == "1.0")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["0.5", "1"], "the labels are fractions, such as '0.5'"),
        ([0.5, 1], "the labels are fractions and whole numbers"),
        ([1, "cat"], "the labels are names and whole numbers"),
        ([[1], [2]], "the labels are lists"),
        ([{"a": 1}], "the labels are objects"),
        ([2**70, 1], "numbers beyond 64 bits"),
        ([True, 1], "the labels are true or false and whole numbers"),
    ],
)
def test_labels_of_other_kinds_are_refused(cells: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        numbers_or_names(cells)


def test_empty_cells() -> None:
    assert [is_empty(cell) for cell in (None, "", " \t", float("nan"), "NA", 0, "0", False)] == [True] * 4 + [False] * 4
