"""Costs add up field by field."""

from __future__ import annotations

import pytest

from robust_transfer.cost import Cost
from robust_transfer.errors import ConfigError


def test_a_sum_is_that_of_the_fields() -> None:
    parts = [Cost(passes=3.5), Cost(passes=1, adversarial_examples=4), Cost(seconds=0.25, adversarial_examples=1)]
    assert sum(parts, Cost()) == Cost(passes=4.5, adversarial_examples=5, seconds=0.25)
    assert parts[0] == Cost(passes=3.5), "a sum is a new value"


def test_a_cost_is_made_of_numbers() -> None:
    with pytest.raises(ConfigError, match="passes"):
        Cost(passes="many")  # type: ignore[arg-type]
