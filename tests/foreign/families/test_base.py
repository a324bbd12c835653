"""Families of checkpoints: the first that knows a state says which network it is."""

from __future__ import annotations

import pytest
import torch

from robust_transfer.foreign.families import Architecture, Family, base, recognised
from robust_transfer.foreign.families.base import State
from robust_transfer.registry import Registry


def test_the_first_family_that_knows_a_state_names_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    families: Registry[Family] = Registry("family of checkpoints")
    monkeypatch.setattr(base, "FAMILIES", families)

    class Wide(Family):
        def recognise(self, state: State) -> Architecture | None:
            return Architecture("wrn_16_1", len(state["fc.weight"]), "fc") if "fc.weight" in state else None

    class Anything(Family):
        def recognise(self, state: State) -> Architecture | None:
            return Architecture("resnet18_cifar", 2, "head") if state else None

    for name, family in (("wide", Wide), ("any", Anything)):
        families.register(name, summary="", paper="")(family)
    assert recognised({"fc.weight": torch.zeros(7, 3)}) == ("wide", Architecture("wrn_16_1", 7, "fc"))
    assert recognised({"x": torch.zeros(1)}) == ("any", Architecture("resnet18_cifar", 2, "head"))
    assert recognised({}) is None
