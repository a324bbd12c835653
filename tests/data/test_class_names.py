"""Classes matched by name: permutations, and differences as they are told."""

from __future__ import annotations

import itertools

import pytest

from robust_transfer.data.class_names import match_names
from robust_transfer.errors import DataError


def test_the_order_is_found() -> None:
    names = ("ant", "bee", "cat", "dog")
    for given in itertools.permutations(names):
        order = match_names(names, given, "they")
        assert [names[i] for i in order] == list(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("ant", "cow"), r"they have different classes \(only in the first 'bee'; only in the second 'cow'\)"),
        (("ant",), "only in the first 'bee'"),
        (("ant", "Bee"), "'bee' and 'Bee' differ only in case"),
        (("ant", "bee "), "'bee' and 'bee ' differ only in spaces"),
        (("ant", "b\u200bee"), r"'bee' and 'b\\u200bee' differ only in"),
        (("ant", "bee", "bee"), "the class name 'bee' is given twice"),
    ],
)
def test_other_names_are_told_apart(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        match_names(("ant", "bee"), given, "they")


def test_composed_and_decomposed_accents_are_shown_with_escapes() -> None:
    with pytest.raises(DataError, match=r"'caf\\xe9' and 'cafe\\u0301' differ only in Unicode composition"):
        match_names(("caf\xe9", "tea"), ("tea", "cafe\u0301"), "they")


def test_a_no_break_space_is_seen() -> None:
    with pytest.raises(DataError, match=r"'sea lion' and 'sea\\xa0lion' differ only in"):
        match_names(("sea lion", "ant"), ("sea\xa0lion", "ant"), "they")
