"""Provenance: a chain of weights, which may fork at an interpolation, and its form on a card."""

from __future__ import annotations

import json

import pytest

from robust_transfer.checkpoint import Card
from robust_transfer.classifier import NetworkSpec
from robust_transfer.config import as_dict, build
from robust_transfer.errors import ConfigError
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.provenance import Mixture, Provenance

ROOT = Provenance(method="pretrain:fast", data="cifar100", weights="r")
PROBE, TUNED = (
    Provenance(method=f"transfer:{name}", data="digits", weights=name[0], source=ROOT) for name in ("probe", "lwf")
)
MIXED = Provenance(method="interpolation:0.5", data=None, weights="m", source=Mixture(a=PROBE, b=TUNED))


def test_every_ancestor_has_its_hash() -> None:
    assert list(ROOT.hashes()) == ["r"]
    assert list(PROBE.hashes()) == ["p", "r"]
    assert list(MIXED.hashes()) == ["m", "p", "r", "l", "r"]


def test_the_form_on_a_card() -> None:
    root = {"method": "pretrain:fast", "data": "cifar100", "weights": "r"}
    assert as_dict(ROOT) == root, "no source, no key"
    assert as_dict(PROBE) == {"method": "transfer:probe", "data": "digits", "weights": "p", "source": root}
    assert as_dict(MIXED)["source"].keys() == {"a", "b"}


def read(told: object) -> Provenance | Mixture | None:
    """As from a card's file."""
    network = NetworkSpec(name="wrn_16_1", num_classes=2, preprocessing=Preprocessing(size=8))
    return build(Card, {"network": network, "class_names": ("a", "b"), "method": "m", "source": told}, "card").source


@pytest.mark.parametrize("value", [ROOT, PROBE, MIXED, MIXED.source], ids=["root", "probe", "mixed", "mixture"])
def test_it_is_read_as_it_is_written(value: Provenance | Mixture) -> None:
    assert read(json.loads(json.dumps(as_dict(value)))) == value


@pytest.mark.parametrize("told", [{"a": "b"}, {"method": "m", "data": None}, {**as_dict(ROOT), "hash": "x"}, "text"])
def test_another_form_is_refused(told: object) -> None:
    with pytest.raises(ConfigError, match="source"):
        read(told)
