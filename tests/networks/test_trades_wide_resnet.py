"""Networks in the layouts of public files have their published sizes, and are saved and loaded with their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from robust_transfer import networks
from robust_transfer.checkpoint import Card, Checkpoint, load_checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.networks.trades_wide_resnet import units_per_stage
from robust_transfer.preprocessing import Preprocessing

SMALL: dict[str, dict[str, Any]] = {
    "trades_wrn": {"depth": 10, "width": 1, "cosine": True},
    "dm_wrn": {"depth": 10, "width": 1, "activation": "relu", "padding": "symmetric", "mean_sparse": True},
    "dm_preact_resnet": {"width": 4, "activation": "gelu"},
    "rice_preact_resnet": {"width": 4, "last_norm": False, "shortcut": "input"},
    "kuangliu_resnet": {"depth": 50, "width": 4},
}


@pytest.mark.parametrize(
    ("name", "settings", "millions"),
    [  # RobustBench's and the papers' own figures
        ("trades_wrn", {"depth": 34, "width": 10}, 46.16),
        ("dm_wrn", {"depth": 28, "width": 10}, 36.48),
        ("dm_wrn", {"depth": 70, "width": 16}, 266.80),
        ("dm_preact_resnet", {}, 12.55),
        ("rice_preact_resnet", {}, 11.17),
        ("kuangliu_resnet", {"depth": 18}, 11.17),
        ("kuangliu_resnet", {"depth": 50}, 23.52),
    ],
)
def test_parameter_counts(name: str, settings: dict[str, Any], millions: float) -> None:
    with torch.device("meta"):
        model = networks.create(name, num_classes=10, input_size=32, **settings)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_a_checkpoint_keeps_the_settings(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    spec = NetworkSpec(name=name, num_classes=3, preprocessing=Preprocessing(size=16), settings=SMALL[name])
    classifier = Classifier.build(spec).eval()
    card = Card(network=spec, class_names=("a", "b", "c"), method="made")
    Checkpoint(classifier, card).save(tmp_path / "run")
    again = load_checkpoint(tmp_path / "run")
    x = torch.rand(2, 3, 16, 16)
    assert again.card.network.settings == SMALL[name]
    assert torch.equal(again.classifier.eval()(x), classifier(x))


def test_depths() -> None:
    assert [units_per_stage(depth) for depth in (10, 16, 28, 34, 70, 106)] == [1, 2, 4, 5, 11, 17]
    for depth in (4, 9, 35):
        with pytest.raises(ValueError, match=f"not {depth}"):
            units_per_stage(depth)


@torch.no_grad()
def test_features_of_norm_1_where_logits_are_cosines() -> None:
    body = networks.create("trades_wrn", num_classes=0, input_size=32, **SMALL["trades_wrn"]).eval()
    torch.testing.assert_close(body(torch.rand(3, 3, 16, 16)).norm(dim=1), torch.ones(3))
