"""Every family's states are recognised, compute what their authors' networks do, and are refused when they are not whole."""

from __future__ import annotations

import dataclasses
from itertools import combinations, product
from typing import Any

import published
import pytest
import torch
from published import CASES, State
from torch import Tensor, nn

from robust_transfer import networks
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.errors import CheckpointError, NetworkError
from robust_transfer.foreign.families import FAMILIES, Architecture, recognised
from robust_transfer.foreign.families.fitting import COUNTER, counts, last_layer, size


def known(state: State) -> tuple[str, Architecture]:
    found = recognised(state)
    assert found is not None
    return found


def rebuilt(state: State, family: str, found: Architecture, **chosen: Any) -> Classifier:
    """A classifier of raw images with the state's weights, as an importer builds it: strictly."""
    settings = found.settings | chosen
    preprocessing = found.preprocessings[0]
    body = networks.create(found.network, num_classes=0, input_size=preprocessing.size, **settings)
    names = body.state_dict().keys()
    rest = {key for key in state if key not in names} - set(found.unused)
    assert rest == {key for key in (f"{found.head}.weight", f"{found.head}.bias") if key in state}
    body.double().load_state_dict({key: state[key] for key in names})
    layer = FAMILIES.get(family)().head(state, found, settings)
    assert layer is not None
    head = nn.Linear(layer[0].shape[1], len(layer[0]), dtype=torch.float64)
    head.load_state_dict({"weight": layer[0], "bias": layer[1]})
    spec = NetworkSpec(
        name=found.network, num_classes=found.num_classes, preprocessing=preprocessing, settings=settings
    )
    return Classifier(body, head, spec).double().eval()


def body_logits(classifier: Classifier, x: Tensor) -> Tensor:
    """Logits in float64 without normalisation (a Classifier's head computes in float32)."""
    weight, bias = classifier.head.get_parameter("weight"), classifier.head.get_parameter("bias")
    features: Tensor = classifier.body(x)
    return features @ weight.T + bias


def every(variants: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """All combinations of the variants."""
    return [dict(zip(variants, values, strict=True)) for values in product(*variants.values())]


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_logits_are_the_authors_and_each_variant_has_its_own(name: str) -> None:
    family, make, reference, settings = CASES[name]
    state = make()
    found_family, found = known(state)
    assert (found_family, found.settings, found.num_classes) == (family, settings, 10)
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    seen = []
    for chosen in every(found.variants):
        logits = body_logits(rebuilt(state, family, found, **chosen), x)
        torch.testing.assert_close(logits, reference(state, x, **chosen), rtol=1e-9, atol=1e-9)
        seen.append(logits)
    assert len(seen) >= 2
    for a, b in combinations(seen, 2):  # a wrong variant shows: a percent of the logits' own spread at the least
        assert float((a - b).abs().max()) > 0.01 * float(a.std()), name
    assert all(len(values) == len(set(values)) > 1 for values in found.variants.values())


@pytest.mark.parametrize("name", CASES)
def test_blocks_go_from_the_stem_to_the_head(name: str) -> None:
    family, make, _, _ = CASES[name]
    state = make()
    classifier = rebuilt(state, family, known(state)[1])
    blocks = classifier.blocks()
    assert [key for block in blocks for key in block if key.startswith("body.")] == [
        key for key in classifier.state_dict() if key.startswith("body.")
    ], "in order from input to output, each name once"
    units = [key for key in state if key.endswith((".conv1.weight", ".conv_0.weight", ".conv_2d_1.weight"))]
    used = [key for key in units if not key.startswith("sub_block1")]
    assert len(blocks) == 1 + len(used) + 1, "the stem, the units, the head; a last norm belongs to the last unit"
    for block, key in zip(blocks[1:-1], used, strict=True):
        assert f"body.{key}" in block
    assert set(blocks[-1]) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_features_are_what_the_last_layer_reads(name: str) -> None:
    family, make, reference, _ = CASES[name]
    state = make()
    found = known(state)[1]
    x = torch.rand(2, 3, 32, 32)
    likeliest = {setting: values[0] for setting, values in found.variants.items()}
    model = networks.create(
        found.network, num_classes=found.num_classes, input_size=32, **found.settings | likeliest
    ).eval()
    classifier = rebuilt(state, family, found, **likeliest).float()
    model.load_state_dict(
        classifier.body.state_dict() | {f"head.{k}": v for k, v in classifier.head.state_dict().items()}
    )
    weight, bias = classifier.head.get_parameter("weight"), classifier.head.get_parameter("bias")
    torch.testing.assert_close(classifier.body(x) @ weight.T + bias, model(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(x).double(), reference(state, x.double(), **likeliest), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_no_family_reads_the_state_of_another(name: str) -> None:
    family, make, _, _ = CASES[name]
    state = make()
    for entry in FAMILIES:
        assert (entry.cls().recognise(state) is None) == (entry.name != family), entry.name


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_50", "vit_tiny_patch16_224", "convnext_atto", "wrn_28_10"])
def test_other_networks_are_of_no_family_of_small_images(name: str) -> None:
    with torch.device("meta"):
        state = networks.create(name, num_classes=10, input_size=32).state_dict()
    for family in sorted({family for family, *_ in CASES.values()}):
        assert FAMILIES.get(family)().recognise(state) is None, family


@pytest.mark.parametrize("name", ["trades", "MeanSparse", "deepmind preact", "rice", "kuangliu", "kuangliu 50"])
def test_a_state_without_one_of_its_names_is_refused(name: str) -> None:
    state = CASES[name][1]()
    for key in state:
        if key.endswith((COUNTER, "flag_update_statistics", "batch_num", "fc.bias", "linear.bias", "logits.bias")):
            continue
        with pytest.raises(CheckpointError, match=r"these are weights in the layout of .*, but "):
            recognised({other: value for other, value in state.items() if other != key})


@pytest.mark.parametrize("name", ["trades", "deepmind", "deepmind preact", "wong", "kuangliu"])
def test_a_tensor_of_another_shape_is_refused(name: str) -> None:
    state = CASES[name][1]()
    for key in [key for key in state if not key.endswith(COUNTER)][::4]:
        wrong = torch.cat([state[key], state[key][:1]])
        if key.startswith(("conv1", "init_conv", "conv_2d.")) or key.split(".")[0] in ("fc", "linear", "logits"):
            wrong = state[key][..., :-1]  # more rows of the last layer would be more classes
        with pytest.raises(CheckpointError, match="these are weights in the layout of "):
            recognised(state | {key: wrong})


@pytest.mark.parametrize(
    ("name", "drop", "message"),
    [
        ("trades", "block2.layer.0.", "TRADES's wide residual networks, but block2.layer.0 is missing: get the file"),
        ("trades", "block2.layer.1.", "its stages have 2 and 1 and 2 units"),
        ("trades", "block3.", "block3.layer.0 is missing"),
        ("trades", "conv1.", "'conv1.weight' is missing"),
        ("deepmind", "layer.1.block.0.", "layer.1.block.0 is missing"),
        ("deepmind", "batchnorm.", "'batchnorm.weight' and 3 more are missing"),
        ("deepmind preact 34", "layer_2.5.", "no ResNet has 3, 4, 5, 3 blocks of two convolutions"),
        ("rice", "layer4.", "layer4.0 is missing"),
        ("kuangliu 50", "layer3.2.", "layer3.2 is missing"),
        ("kuangliu", "bn1.", "'bn1.weight' and 3 more are missing"),
        ("kuangliu", "layer2.0.shortcut.0.", "'layer2.0.shortcut.0.weight' is missing"),
        ("kuangliu", "linear.weight", "'linear.bias' is beside it"),
    ],
)
def test_what_is_missing_is_said(name: str, drop: str, message: str) -> None:
    state = {key: value for key, value in CASES[name][1]().items() if not key.startswith(drop)}
    with pytest.raises(CheckpointError, match=message):
        recognised(state)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("trades", {"fc.weight": torch.zeros(10, 999)}, r"'fc.weight' has the shape \(10, 999\) where .* \(10, 128\)"),
        ("trades", {"fc.bias": torch.zeros(9)}, r"'fc.bias' has the shape \(9,\)"),
        ("trades", {"fc.weight": torch.tensor(0.0)}, r"'fc.weight' has the shape \(\)"),
        ("trades", {"block1.layer.0.conv1.weight": torch.zeros(40, 16, 3, 3)}, "40 channels, which is no multiple"),
        ("trades", {"conv1.weight": torch.zeros(16, 1, 3, 3)}, r"\(16, 1, 3, 3\) where the rest calls for \(16, 3, 3"),
        ("trades", {"block1.layer.0.act.alpha": torch.zeros(1)}, "'block1.layer.0.act.alpha' is beside it: this is an"),
        ("deepmind", {"layer.3.block.0.conv_0.weight": torch.zeros(1)}, "'layer.3.block.0.conv_0.weight' is beside"),
        ("deepmind", {"layer.0.block.3.conv_0.weight": torch.zeros(1)}, "layer.0.block.2 is missing"),
        ("kuangliu", {"layer4.1.bn9.weight": torch.zeros(1)}, "'layer4.1.bn9.weight' is beside it"),
        ("rice", {"conv1.weight": torch.zeros(())}, r"'conv1.weight' has the shape \(\)"),
    ],
)
def test_what_does_not_fit_is_said(name: str, changes: State, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        recognised(CASES[name][1]() | changes)


@pytest.mark.parametrize("name", CASES)
def test_counters_may_be_missing_and_floats_may_be_half(name: str) -> None:
    state = CASES[name][1]()
    old = {key: value.half() for key, value in state.items() if not key.endswith(COUNTER)}
    found, as_new = known(old)[1], known(state)[1]
    assert found.unused == tuple(key for key in as_new.unused if not key.endswith(COUNTER))
    assert dataclasses.replace(found, unused=as_new.unused) == as_new


@pytest.mark.parametrize("name", ["trades", "deepmind", "deepmind preact", "rice", "kuangliu"])
def test_without_its_last_layer_a_state_is_a_feature_extractor(name: str) -> None:
    family, make, _, _ = CASES[name]
    state = {key: value for key, value in make().items() if key.split(".")[0] not in ("fc", "linear", "logits")}
    found = known(state)[1]
    assert (found.head, found.num_classes) == ("", 0)
    assert FAMILIES.get(family)().head(state, found, found.settings) is None
    assert any("feature extractor" in sentence for sentence in found.inferred)


def test_what_is_inferred_is_said() -> None:
    found = known(published.trades(16, 2, 100))[1]
    assert found.inferred == (
        "depth 16: 2 units in each stage",
        "width 2: block1 has 32 channels",
        "100 classes: fc.weight has as many rows",
        "images of 32 pixels: usual for this layout, no file tells",
    )
    assert known(published.resnet(50, 8))[1].inferred[:2] == (
        "depth 50: 3, 4, 6, 3 bottlenecks",
        "8 channels in the stem: conv1.weight has as many",
    )
    assert "no last norm: there is no bn" in known(published.resnet(preact=True))[1].inferred
    assert (
        "MeanSparse after every norm and sum: there are meansparse_0 and the like"
        in known(published.dm_wide(sparse=True))[1].inferred
    )


def test_parts() -> None:
    state = {"a.0.x": torch.zeros(2, 3), "a.1.x": torch.zeros(1), "a.y": torch.zeros(1), "b.0": torch.zeros(1)}
    assert counts(state, ["a.", "b."], "L") == (2, 1)
    with pytest.raises(CheckpointError, match=r"layout of L, but c\.0 is missing"):
        counts(state, ["c."], "L")
    assert size(state, "a.0.x", 1, "L") == 3
    with pytest.raises(CheckpointError, match="'a' is missing"):
        size(state, "a", 0, "L")
    assert last_layer({"z.weight": torch.zeros(4, 2)}, ("y", "z"), "L")[:2] == ("z", 4)


@pytest.mark.parametrize("name", ["trades_wrn", "dm_wrn", "dm_preact_resnet", "rice_preact_resnet", "kuangliu_resnet"])
def test_settings_that_make_no_sense_are_refused(name: str) -> None:
    wrong: list[dict[str, Any]] = [{"depth": 11}, {"activation": "tanh"}]
    wrong += [{"padding": "left"}] if name.startswith("dm") else []
    wrong += [{"shortcut": "none"}] if name.startswith("rice") else []
    wrong += [{"depth": 50}] if name == "dm_preact_resnet" else []
    for settings in wrong:
        with pytest.raises(NetworkError, match=f"cannot build the network '{name}'"):
            networks.create(name, num_classes=0, input_size=32, **settings)
