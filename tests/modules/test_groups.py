"""Groups of state: of timm's networks, of any module, and of pairs."""

from __future__ import annotations

from helpers import make_classifier
from torch import nn

from robust_transfer.modules import blocks_of, calls_of, groups_of
from robust_transfer.networks.pair import Pair


def small(depth: int) -> nn.Module:
    return nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(depth)), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_groups_are_timms_or_those_of_the_tree() -> None:
    body = make_classifier().body
    asked = list[str]()
    groups = groups_of(body, lambda: asked)
    assert [name for group in groups for name in group] == list(body.state_dict())
    plain = small(3)
    assert groups_of(plain, lambda: calls_of(plain, 8)) == blocks_of(plain, calls_of(plain, 8))


def test_those_of_a_pair_are_as_far_from_the_end() -> None:
    pair = Pair(small(3), small(2))
    assert groups_of(pair, lambda: calls_of(pair, 8)) == [
        ["first.0.weight", "first.0.bias"],
        ["first.1.weight", "first.1.bias", "second.0.weight", "second.0.bias"],
        ["first.2.weight", "first.2.bias", "second.1.weight", "second.1.bias"],
    ]
