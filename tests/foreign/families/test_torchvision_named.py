"""Networks as torchvision names them: found whatever their classes, with the logits of torchvision's."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from foreign_helpers import loaded, randomised, recognised_as, same
from torch import Tensor, nn

from robust_transfer import networks
from robust_transfer.errors import NetworkError
from robust_transfer.foreign.families import FAMILIES, recognised
from robust_transfer.foreign.families.weightless import weightless


def author(name: str, classes: int = 7, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **settings)
    return randomised(made)


@pytest.mark.parametrize(
    ("name", "network", "size"),
    [
        ("resnet18", "resnet18", 64),
        ("resnet50", "resnet50", 64),
        ("densenet121", "densenet121", 32),
        ("mobilenet_v2", "torchvision/mobilenet_v2", 64),
        ("mnasnet0_5", "torchvision/mnasnet0_5", 64),
        ("shufflenet_v2_x0_5", "torchvision/shufflenet_v2_x0_5", 64),
    ],
)
def test_logits(name: str, network: str, size: int) -> None:
    model = author(name)
    state = model.state_dict()
    found = recognised_as(state, "torchvision")
    assert (found.network, found.num_classes, found.unused) == (network, 7, ())
    assert found.preprocessings[0].size == 224
    assert found.preprocessings[0].normalisation.mean == (0.485, 0.456, 0.406)
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        same(loaded(state, "torchvision", size=size)(x), model(x))


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU])
def test_another_activation_is_a_variant(activation: type[nn.Module]) -> None:
    model = author("resnet18")
    for part in list(model.modules()):
        if isinstance(getattr(part, "relu", None), nn.ReLU):
            part.relu = activation()
    state, name = model.state_dict(), activation.__name__.lower()
    assert name in recognised_as(state, "torchvision").variants["act_layer"]
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        same(loaded(state, "torchvision", size=64, act_layer=name)(x), expected)
        wrong = loaded(state, "torchvision", size=64)(x)
    assert float((wrong - expected).abs().max()) > 1e-2 * float(expected.abs().max())


ON_META = ["alexnet", "vgg11", "vgg16_bn", "resnet34", "resnet101", "wide_resnet50_2", "resnext50_32x4d"]
ON_META += ["efficientnet_b0", "mobilenet_v3_large", "convnext_tiny", "swin_t", "regnet_y_400mf"]


@pytest.mark.parametrize("name", ON_META)
def test_networks_are_told_apart_whatever_their_classes(name: str) -> None:
    state = weightless(partial(torchvision.models.get_model, name, weights=None, num_classes=10)).state_dict()
    found = recognised_as(state, "torchvision")
    assert found.network == (name if name.startswith(("res", "wide")) else f"torchvision/{name}")
    assert found.num_classes == 10
    assert f"{found.head}.weight" in state


def test_networks_that_compute_otherwise_with_the_same_weights_are_named() -> None:
    state = weightless(partial(torchvision.models.get_model, "resnet50", weights=None)).state_dict()
    found = recognised_as(state, "torchvision")
    assert set(found.alternatives) == {"resnetaa50", "resnetblur50"}
    assert "resnetblur50" in found.inferred[-1]


def test_positions_tell_the_size_of_the_images() -> None:
    with torch.device("meta"):
        state = torchvision.models.vit_b_16(weights=None, image_size=384, num_classes=10).state_dict()
    found = recognised_as(state, "torchvision")
    assert found.network == "torchvision/vit_b_16"
    assert {each.size for each in found.preprocessings} == {384}
    assert "images of 384 pixels: from the number of positions" in found.inferred


def test_auxiliary_heads_are_left_out() -> None:
    with torch.device("meta"):
        model = torchvision.models.inception_v3(weights=None, num_classes=10, init_weights=False)
    found = recognised_as(model.state_dict(), "torchvision")
    assert found.network == "torchvision/inception_v3"
    assert found.head == "fc"
    assert found.unused
    assert all(key.startswith("AuxLogits.") for key in found.unused)
    assert found.variants["transform_input"] == (False, True)
    assert found.preprocessings[0].size == 299


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_squeezenets_scores_are_features(name: str) -> None:
    model = author(name, classes=6)
    x = torch.rand(2, 3, 64, 64)
    state = model.state_dict()
    with torch.no_grad():
        same(loaded(state, "torchvision", size=64)(x), model(x))
    found = recognised_as(state, "torchvision")
    assert (found.network, found.num_classes, found.head) == (f"torchvision/{name}", 6, "")
    assert "the head is the identity" in " ".join(found.inferred)


def test_a_network_without_its_head_is_a_feature_extractor() -> None:
    with torch.device("meta"):
        state = torchvision.models.resnet18(weights=None).state_dict()
    found = recognised_as({k: v for k, v in state.items() if not k.startswith("fc.")}, "torchvision")
    assert (found.network, found.num_classes, found.head) == ("resnet18", 0, "")


@pytest.mark.parametrize("change", ["missing", "shape", "extra"])
def test_what_does_not_fit_exactly_is_no_network_of_torchvisions(change: str) -> None:
    with torch.device("meta"):
        state: dict[str, Tensor] = dict(torchvision.models.resnet18(weights=None).state_dict())
    if change == "missing":
        del state["layer3.1.bn2.weight"]
    elif change == "shape":
        state["layer3.1.conv1.weight"] = torch.empty(256, 256, 1, 1)
    else:
        state["layer5.weight"] = torch.empty(2, 2)
    assert recognised(state) is None


def test_names() -> None:
    assert networks.canonical("torchvision/VGG16-BN") == "torchvision/vgg16_bn"
    with pytest.raises(NetworkError, match="unknown network of torchvision 'vgg17': did you mean"):
        networks.canonical("torchvision/vgg17")
    for settings, message in (({"weights": "DEFAULT"}, "'weights' is no setting"), ({"widht": 1}, "widht")):
        with pytest.raises(NetworkError, match=message):
            networks.create("torchvision/alexnet", num_classes=0, input_size=64, **settings)
    with pytest.raises(NetworkError, match="without its head only"):
        networks.create("torchvision/alexnet", num_classes=10, input_size=64)
    body = networks.create("torchvision/alexnet", num_classes=0, input_size=64)
    assert body.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 4096)


def test_vision_transformers_of_2022_have_other_names() -> None:
    """torchvision's own files have them; its module translates what it loads."""
    whole = weightless(partial(torchvision.models.vit_b_16, weights=None)).state_dict()
    older = {
        key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value for key, value in whole.items()
    }
    assert "encoder.layers.encoder_layer_0.mlp.linear_1.weight" in older
    found = recognised_as(older, "torchvision")
    assert (found.network, found.head) == ("torchvision/vit_b_16", "heads.head")
    body = FAMILIES.get("torchvision")().body(older, found, {})
    assert {key: each.shape for key, each in body.items()} == {
        key: each.shape for key, each in whole.items() if not key.startswith("heads.head.")
    }
    with torch.device("meta"):
        own = torchvision.models.vit_b_16(weights=None)
    own.load_state_dict(dict(older), strict=True, assign=True)  # by torchvision's own rule
    assert own.state_dict().keys() == whole.keys()
