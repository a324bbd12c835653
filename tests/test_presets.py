"""Presets of every registered configuration: built by name, overridden by what is given, unknown ones refused."""

from __future__ import annotations

from typing import Any

import pytest

from robust_transfer.attacks import ATTACKS, parse_attack
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining import PRETRAINING
from robust_transfer.strategies import STRATEGIES
from robust_transfer.study import load_recipe, packaged
from robust_transfer.study.work import method_of

CONFIGURATIONS = [entry.cls for registry in (STRATEGIES, PRETRAINING, ATTACKS) for entry in registry]


@pytest.mark.parametrize("cls", CONFIGURATIONS, ids=lambda cls: cls.__name__)
def test_presets_can_be_built_and_overridden(cls: Any) -> None:
    for preset, values in cls.presets.items():
        made = cls.from_settings({"preset": preset})
        assert {key: getattr(made, key) for key in values} == values
        key = next(
            key for key, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)
        )
        changed = cls.from_settings({"preset": preset, key: values[key] * 2})
        assert getattr(changed, key) == values[key] * 2
    for wrong in ("papr", ["a", "list"]):
        with pytest.raises(ConfigError, match="preset"):
            cls.from_settings({"preset": wrong})


def test_an_attack_takes_a_preset_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ATTACKS.get("pgd"), "presets", {"brief": {"steps": 3, "loss": "margin"}})
    assert str(parse_attack("pgd:preset=brief")[0]) == "pgd-3:loss=margin"
    assert str(parse_attack("pgd-5:preset=brief")[0]) == "pgd-5:loss=margin"


def test_the_recipes_train_the_papers_network_by_the_papers_preset() -> None:
    found = 0
    for name in packaged():
        for source in load_recipe(
            name, scale="paper", data=dict.fromkeys(("cifar10", "cifar100", "imagenette", "tiny-imagenet"), "a")
        ).sources.values():
            if source.pretrain is not None and source.pretrain.network == "wrn_32_10_shafahi":
                method, found = method_of(source.pretrain), found + 1
                assert method == type(method).from_settings({"preset": "paper"}), name
    assert found >= 10
