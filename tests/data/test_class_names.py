"""Classes matched by name: permutations, and differences as they are told."""

from __future__ import annotations

import itertools

import pytest

from robust_transfer.data.class_names import match_names
from robust_transfer.errors import DataError


def test_the_order_is_found() -> None:
    names = ("ant", "bee", "cat", "dog")
    for given in itertools.permutations(names):
        order = match_names(names, given, wanted_by="a", given_by="b")
        assert [names[i] for i in order] == list(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("ant", "cow"), r"one and other have different classes \(only in one 'bee'; only in other 'cow'\)"),
        (("ant",), "only in one 'bee'"),
        (("ant", "Bee"), "'bee' in one and 'Bee' in other differ only in upper and lower case"),
        (("ant", "bee "), "'bee' in one and 'bee ' in other differ only in spaces"),
        (("ant", "b\u200bee"), r"'bee' in one and 'b\\u200bee' in other differ only in invisible characters"),
        (("ant", "bee", "bee"), "other has the class 'bee' twice"),
    ],
)
def test_other_names_are_told_apart(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        match_names(("ant", "bee"), given, wanted_by="one", given_by="other")


def test_composed_and_decomposed_accents_are_shown_with_escapes() -> None:
    with pytest.raises(
        DataError, match=r"'caf\\xe9' in one and 'cafe\\u0301' in other differ only in Unicode normalisation"
    ):
        match_names(("caf\xe9", "tea"), ("tea", "cafe\u0301"), wanted_by="one", given_by="other")


def test_a_no_break_space_is_seen() -> None:
    with pytest.raises(DataError, match=r"'sea lion' in one and 'sea\\xa0lion' in other differ only in spaces"):
        match_names(("sea lion", "ant"), ("sea\xa0lion", "ant"), wanted_by="one", given_by="other")
