"""Pairs of networks: features side by side, built from their settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robust_transfer import networks
from robust_transfer.errors import NetworkError
from robust_transfer.networks import pair

ONE: tuple[str, dict[str, Any]] = ("wrn_16_1", {})
OTHER: tuple[str, dict[str, Any]] = ("resnet18_cifar", {"base": 8})


def test_features_stand_side_by_side() -> None:
    made = networks.create("pair", num_classes=0, input_size=8, **pair.settings_of(ONE, OTHER)).eval()
    x = torch.rand(2, 3, 8, 8)
    first, second = made.get_submodule("first"), made.get_submodule("second")
    assert torch.equal(made(x), torch.cat([first(x), second(x)], 1))
    assert made(x).shape == (2, 64 + 64)


def test_pairs_of_pairs_have_all_their_parts() -> None:
    inner = (pair.NAME, pair.settings_of(ONE, OTHER))
    settings = pair.settings_of(inner, ONE)
    assert pair.parts_of(pair.NAME, settings) == [ONE, OTHER, ONE]
    assert pair.parts_of(*OTHER) == [OTHER]
    made = networks.create("pair", num_classes=0, input_size=8, **settings).eval()
    assert made(torch.rand(2, 3, 8, 8)).shape == (2, 192)


@pytest.mark.parametrize(
    ("name", "settings", "what"),
    [
        ("pair", {}, "first and second"),
        ("pair", {"first": {"name": "wrn_16_1", "settings": {}}}, "first and second"),
        ("pair", {"first": {"name": "wrn_16_1"}, "second": {"name": "wrn_16_1"}}, "first and second"),
        ("pair", pair.settings_of(("wrn_16_1x", {}), ONE), "wrn_16_1"),
        ("pairs", pair.settings_of(ONE, ONE), "there is no network 'pairs'"),
    ],
)
def test_what_is_no_pair_is_refused(name: str, settings: dict[str, Any], what: str) -> None:
    with pytest.raises(NetworkError, match=what):
        networks.create(name, num_classes=0, input_size=8, **settings)


def test_a_pair_has_no_head_of_its_own() -> None:
    with pytest.raises(NetworkError, match="without its head only"):
        networks.create("pair", num_classes=10, input_size=8, **pair.settings_of(ONE, ONE))
    assert "pair" not in networks.available()  # nobody trains one by name
