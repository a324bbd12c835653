"""Normalisations by the number of classes, the likeliest first."""

from __future__ import annotations

import published
import pytest

from robust_transfer.foreign.families import recognised
from robust_transfer.foreign.families.normalisations import (
    CIFAR10_2471,
    CIFAR100,
    HALF,
    IMAGENET,
    OWN,
    PER_IMAGE,
    RAW,
    TINY_IMAGENET,
    preprocessings,
)


@pytest.mark.parametrize("num_classes", [0, 7, *OWN])
def test_each_list_has_the_data_sets_own_none_and_half_once_each(num_classes: int) -> None:
    raw = [each.normalisation for each in preprocessings(num_classes, raw_first=True, more=(PER_IMAGE,))]
    own = [each.normalisation for each in preprocessings(num_classes, raw_first=False)]
    assert raw[0] == RAW != own[0]
    assert set(map(repr, raw)) == {repr(PER_IMAGE), *map(repr, own)}
    assert len(set(map(repr, raw))) == len(raw)
    assert HALF in own


def test_the_families_put_first_what_their_authors_use() -> None:
    states = {"trades": published.trades(), "deepmind": published.dm_wide(classes=100)}
    states |= {"rice": published.resnet(preact=True), "kuangliu": published.resnet(classes=200)}
    first = {}
    for name, state in states.items():
        found = recognised(state)
        assert found is not None
        first[name] = found[1].preprocessings[0]
        assert (found[1].preprocessings[-1].normalisation == PER_IMAGE) == (name == "trades")
    assert [first[name].normalisation for name in states] == [RAW, CIFAR100, CIFAR10_2471, RAW]
    assert [first[name].size for name in states] == [32, 32, 32, 64]
    assert {repr(TINY_IMAGENET), repr(IMAGENET)} <= {
        repr(each.normalisation) for each in preprocessings(200, raw_first=True)
    }


def test_they_are_what_the_data_sets_have() -> None:
    # mean and deviation of all CIFAR-10 and CIFAR-100 training pixels
    assert CIFAR10_2471.mean == pytest.approx((0.49140, 0.48216, 0.44653), abs=1e-4)
    assert CIFAR10_2471.std == pytest.approx((0.24703, 0.24349, 0.26159), abs=1e-4)
    assert CIFAR100.mean == pytest.approx((0.50708, 0.48655, 0.44092), abs=1e-4)
    assert CIFAR100.std == pytest.approx((0.26733, 0.25644, 0.27615), abs=1e-4)
