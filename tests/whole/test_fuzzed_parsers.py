"""Every parser refuses changed inputs or reads them; the long run, guided by coverage, is campaigns/fuzzing.py."""

from __future__ import annotations

import warnings

import pytest
from fuzz_parsers import PARSERS, mutated


@pytest.mark.parametrize("name", PARSERS)
def test_changed_inputs_are_refused_or_read(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on pictures that are strange and can be read
        outcomes = [PARSERS[name].refuses(content) for content in mutated(name, 60)]
    expected = {False} if PARSERS[name].lenient else {True, False}
    assert set(outcomes) == expected, "of these inputs some are harmless and some are not"


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_many_changed_inputs_are_refused_or_read(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in mutated(name, 3000, seed=1):
            PARSERS[name].refuses(content)
