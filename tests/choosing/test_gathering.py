"""Sources of a choice: which are taken, which cannot be, and what other people's were trained for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import make_digits, make_source

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.choosing.gathering import gathered, says_no_threat
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat

GIVEN = Threat.parse("l2:0.5")


def like(**card: Any) -> Checkpoint:
    made = make_source()
    return replace(made, card=replace(made.card, **card))


def test_a_given_threat_is_that_of_networks_which_do_not_say_theirs() -> None:
    asked = {
        "somebody's": like(method="import", threat=None),
        "somebody's, said": like(method="import", threat=Threat.parse("linf:4/255"), origin={"threat": "given"}),
        "somebody's, natural": like(method="import", threat=None, origin={"threat": "none, natural training"}),
        "ours, natural": like(method="pretrain:natural", threat=None),
    }
    images = make_digits(train=4, val=2, test=2).train
    assert [says_no_threat(source) for source in asked.values()] == [True, False, False, False]
    found, unusable = gathered(list(asked.values()), images, GIVEN)
    assert [str(source.card.threat) for source in found.values()] == ["l2:0.5", "linf:4/255", "None", "None"]
    assert found["source 1"].card.origin["threat"] == "given"
    assert not unusable
    same, _ = gathered(list(asked.values()), images)
    assert [source.card for source in same.values()] == [source.card for source in asked.values()]


def test_what_cannot_be_used_is_told_and_raised_if_nothing_is_left(tmp_path: Path) -> None:
    images, missing = make_digits(train=4, val=2, test=2).train, str(tmp_path / "nowhere")
    found, unusable = gathered([missing, make_source()], images)
    assert list(found) == ["source 2"]
    assert list(unusable) == [missing]
    with pytest.raises(ConfigError, match="nowhere"):
        gathered([missing], images)


def test_files_are_called_by_their_names_where_these_differ(tmp_path: Path) -> None:
    images = make_digits(train=4, val=2, test=2).train
    for folder in ("a", "b"):
        make_source(seed=ord(folder)).save(tmp_path / folder / "net")
    asked = [str(tmp_path / folder / "net") for folder in ("a", "b")]
    found, _ = gathered([*asked, "bundled"], images)
    assert list(found) == ["net", asked[1], "bundled"]  # no path of the machine where a name will do


def test_the_packages_own_are_those_that_are_robust_the_fitting_one_first() -> None:
    small, _ = gathered([], make_digits(train=4, val=2, test=2).train)
    assert list(small) == ["bundled", "bundled-64"]
