"""Means of inner blocks' channels: against a plain pass, over a whole split, and which blocks these are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import QUIET, make_classifier, make_digits

from robust_transfer.data import to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.strategies import features_of
from robust_transfer.strategies.pooled import inner_blocks, pooled_of, with_pooled


def test_the_last_block_is_left_to_the_features() -> None:
    classifier = make_classifier()
    every = ("conv1", *(f"units.{number}" for number in range(5)))
    assert inner_blocks(classifier, 1) == ()
    assert inner_blocks(classifier, 3) == ("units.3", "units.4")
    assert inner_blocks(classifier, 7) == inner_blocks(classifier, 0) == every
    with pytest.raises(ConfigError, match="has 7 depths to hold, the features among them: depths=8"):
        inner_blocks(classifier, 8)


def test_means_are_a_plain_passs() -> None:
    classifier, x = make_classifier().eval(), torch.rand(4, 3, 8, 8)
    body: Any = classifier.body
    z, means = with_pooled(classifier, x, ("conv1", "units.1"))
    h = body.conv1(classifier.normalise(x))
    torch.testing.assert_close(means["conv1"], h.mean((2, 3)))
    torch.testing.assert_close(means["units.1"], body.units[1](body.units[0](h)).mean((2, 3)))
    assert torch.equal(z, classifier.features(x))


def test_a_whole_split_is_computed_once(tmp_path: Path) -> None:
    classifier, split = make_classifier().eval(), make_digits(train=30, val=5, test=0).train
    run = dataclasses.replace(QUIET, cache=tmp_path)
    found = pooled_of(classifier, split, run, ("units.0", "units.3"))
    wanted = with_pooled(classifier, to_pixels(split.images()), ("units.0", "units.3"))[1]
    for name, rows in wanted.items():
        torch.testing.assert_close(found[name], rows.detach())
    again = pooled_of(classifier, split, run, ("units.0", "units.3"))
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert set(pooled_of(classifier, split, run, ("units.2",))) == {"units.2"}
    assert len(list((tmp_path / "pooled").glob("*.safetensors"))) == 2
    features_of(classifier, split, run)
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 1
