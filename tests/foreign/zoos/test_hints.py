"""Hints from a zoo's table that no file contains."""

from __future__ import annotations

from robust_transfer.foreign.zoos import entries, find
from robust_transfer.foreign.zoos.hints import hints, published
from robust_transfer.preprocessing import Normalisation


def test_robustbench_says_what_no_file_does() -> None:
    carmon = hints(find("robustbench:cifar10/Linf/Carmon2019Unlabeled"))
    assert str(carmon.threat) == "linf:8/255"
    assert carmon.threat_from is not None
    assert "RobustBench measured it under" in carmon.threat_from
    mma = hints(find("robustbench:cifar10/Linf/Ding2020MMA"))
    assert mma.normalisation == Normalisation(per_image=True, unbiased=True)
    assert carmon.settings == {"activation": "relu"}
    assert carmon.normalisation is not None
    assert carmon.normalisation.std == (1.0, 1.0, 1.0)
    gowal = hints(find("robustbench:cifar10/Linf/Gowal2020Uncovering_28_10_extra"))
    assert gowal.settings == {"activation": "silu", "padding": "asymmetric"}
    last = hints(find("robustbench:cifar10/Linf/Andriushchenko2020Understanding"))
    assert (last.weights, last.settings) == ("last", {"activation": "relu", "shortcut": "input"})
    gelu = next(entry for entry in entries("ares") if entry.settings.get("activation") == "gelu")
    assert hints(gelu).settings == {"act_layer": "gelu"}


def test_what_a_card_says_of_the_zoo() -> None:
    assert published(find("robustbench:cifar10/Linf/Carmon2019Unlabeled")) == {
        "published": "as RobustBench has it: cifar10/Linf/Carmon2019Unlabeled",
        "published_accuracy": {"clean": 89.69, "robust": 59.53},
    }
    natural = next(entry for entry in entries("madrylab") if entry.threat is None)
    assert (hints(natural).threat, hints(natural).threat_from) == (None, None)
    assert "robust" not in published(natural)["published_accuracy"]
