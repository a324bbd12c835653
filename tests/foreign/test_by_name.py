"""Weights under other names matched to a network's own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.by_name import likely, paired
from robust_transfer.foreign.finding import find
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.importing import bring_in
from robust_transfer.foreign.normalisations import NORMALISATIONS, name_of
from robust_transfer.networks import create

NETWORK = "resnet_8"


def block(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 3), nn.BatchNorm2d(width))


def network(blocks: int = 12) -> dict[str, Tensor]:
    """Of a stem, equal blocks and a head, in the order in which they compute."""
    made = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "blocks": nn.ModuleList(block(4) for _ in range(blocks))})
    made["head"] = nn.Linear(4, 2)
    return {name: value for name, value in made.state_dict().items() if not name.endswith("num_batches_tracked")}


OURS = network()


def renamed(*changes: tuple[str, str]) -> dict[str, str]:
    """Another's name -> ours."""
    found = {}
    for name in OURS:
        other = name
        for old, new in changes:
            other = other.replace(old, new)
        found[other] = name
    return found


NAMES = renamed(
    ("stem", "conv_in"), ("blocks.", "_layer"), (".0.", ".point."), (".1.", ".wide."), (".2.", ".z."), ("head", "fc")
)


def matched(order: list[str]) -> tuple[dict[str, str], str] | None:
    return paired({name: OURS[NAMES[name]] for name in order}, OURS)


def truth() -> dict[str, str]:
    return {ours: theirs for theirs, ours in NAMES.items()}


def test_in_the_networks_order() -> None:
    assert matched(list(NAMES)) == (truth(), "order")


def test_sorted_by_name_10_comes_before_2() -> None:
    """As files of safetensors are: their order says nothing, the numbers do."""
    order = sorted(NAMES)
    assert order.index("_layer10.point.weight") < order.index("_layer2.point.weight")
    found = matched(order)
    assert found is not None
    assert found[0] == truth()
    assert "by the numbers in their names" in found[1]
    moved = [name for name in NAMES if not name.startswith("fc")]  # as of the package ndf: the last layer is the second
    moved[2:2] = ["fc.weight", "fc.bias"]
    assert matched(moved) == found
    shuffled = list(NAMES)
    random.Random(0).shuffle(shuffled)
    assert matched(shuffled) == found


def test_layers_of_one_shape_and_other_names_need_an_order() -> None:
    names = renamed(("blocks.0.1", "b.zoom"), ("blocks.1.1", "b.adjust"), ("blocks.", "b."))
    in_order = {name: OURS[ours] for name, ours in names.items()}
    found = paired(in_order, OURS)
    assert found is not None
    assert found[1] == "order"
    with pytest.raises(CheckpointError, match=r"have the same shapes: which is which cannot be told"):
        paired({name: in_order[name] for name in sorted(in_order)}, OURS)


def test_other_shapes_are_another_network() -> None:
    assert paired(network(11), OURS) is None
    assert paired({**OURS, "head.weight": torch.zeros(3, 4)}, OURS) is None
    assert paired({name.replace("bias", "beta"): value for name, value in OURS.items()}, OURS) is None


def test_a_vision_transformer_whose_file_is_sorted(tmp_path: Path) -> None:
    """Twelve equal blocks: by the order of the file, the third would be the eleventh, and all shapes would agree."""
    torch.manual_seed(0)
    made = create("vit_tiny_patch16_224", num_classes=3, input_size=32, depth=12, embed_dim=12)
    given = {name.replace("blocks.", "encoder.layers.layer_"): value for name, value in made.state_dict().items()}
    torch.save({name: given[name] for name in sorted(given)}, tmp_path / "w.pt")
    hints = Hints(
        network="vit_tiny_patch16_224", size=32, settings={"depth": 12, "embed_dim": 12},
        normalisation=NORMALISATIONS["none"],
    )  # fmt: skip
    brought = bring_in(find(tmp_path / "w.pt", hints=hints))
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(brought.classifier(x), made.eval()(x))
    assert "by the numbers in their names" in brought.card.origin["notes"][0]


def test_preprocessings_are_those_of_the_networks_library() -> None:
    for name, size, short, interpolation, first in (
        ("tf_efficientnet_lite0", 224, 256, "bicubic", "half"),
        ("torchvision/squeezenet1_1", 224, 256, "bilinear", "imagenet"),
        ("torchvision/inception_v3", 299, 342, "bilinear", "imagenet"),
    ):
        some = likely(name, Hints(network=name))
        assert {(how.size, how.short, how.resize, how.interpolation) for how in some} == {
            (size, short, "crop", interpolation)
        }
        names = [name_of(how.normalisation) for how in some]
        assert names[0] == first
        assert set(names) == {"imagenet", "half", "none"}
