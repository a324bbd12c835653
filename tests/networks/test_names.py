"""Our CIFAR networks are the published ones, and every network is found by name or refused with a reason."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from robust_transfer import networks
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.errors import NetworkError
from robust_transfer.networks.wide_resnet import Unit, WideResNet
from robust_transfer.preprocessing import Preprocessing


def on_meta(name: str, num_classes: int = 10) -> Any:
    """A network without memory: enough to count and to look at."""
    with torch.device("meta"):
        return networks.create(name, num_classes=num_classes, input_size=32)


@pytest.mark.parametrize(
    ("name", "millions"),
    [  # Zagoruyko & Komodakis 2016, table 4; Madry et al. 2018's WRN-34-10; He et al. 2016 at 32x32
        ("wrn_16_8", 11.0),
        ("wrn_28_10", 36.5),
        ("wrn_34_10", 46.2),
        ("preact_resnet18", 11.17),
        ("resnet18_cifar", 11.17),
        ("preact_resnet18_w32", 2.80),
        ("preact_resnet18_w32_64", 2.80),
        ("wrn_32_10_shafahi", 45.9),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, millions: float) -> None:
    count = sum(p.numel() for p in on_meta(name).parameters()) / 1e6
    digits = len(str(millions).partition(".")[2])
    assert round(count, digits) == millions


@pytest.mark.parametrize("name", networks.available())
def test_every_network_answers_the_same_questions(name: str) -> None:
    model = on_meta(name, num_classes=7)
    x = torch.empty(2, 3, 32, 32, device="meta")
    assert model(x).shape == (2, 7)
    assert model.num_features == model.head_hidden_size == model.get_classifier().in_features
    features = model.forward_head(model.forward_features(x), pre_logits=True)
    assert features.shape == (2, model.num_features)
    model.reset_classifier(0)
    assert model(x).shape == features.shape
    assert networks.available()[name]


def test_the_transfer_papers_network() -> None:
    body = on_meta("wrn_32_10_shafahi", num_classes=0)
    spec = NetworkSpec(name="wrn_32_10_shafahi", num_classes=10, preprocessing=Preprocessing(size=32))
    classifier = Classifier(body, nn.Linear(640, 10, device="meta"), spec)
    blocks = classifier.blocks()
    assert len(blocks) == 17
    assert blocks[0] == ("body.conv1.weight",)
    assert set(blocks[-1]) == {"head.weight", "head.bias"}
    assert any(name.startswith("body.last.") for name in blocks[-2]), "the last norm belongs to the last unit"
    assert body.num_features == 640
    assert not [name for name, _ in body.named_parameters() if "shortcut" in name]
    assert {unit.slope for unit in body.units} == {body.last[1].slope} == {0.1}
    assert [unit.activate_before for unit in body.units] == [True] + [False] * 14
    assert [unit.stride for unit in body.units] == [1] * 5 + [2] + [1] * 4 + [2] + [1] * 4


def silent(unit: Unit) -> Unit:
    """A unit whose convolutions add nothing, so that what it carries shows."""
    nn.init.zeros_(unit.conv2.weight)
    return unit.eval()


def test_a_free_shortcut_averages_and_pads_on_both_sides() -> None:
    x = torch.randn(2, 4, 6, 6)
    carried = silent(Unit(4, 10, 2, 0.1, free_shortcut=True, activate_before=False))(x)
    assert torch.equal(carried[:, 3:7], F.avg_pool2d(x, 2))
    assert torch.equal(carried[:, [0, 1, 2, 7, 8, 9]], torch.zeros(2, 6, 3, 3))


@pytest.mark.parametrize(("slope", "factor"), [(0.0, 0.0), (0.1, 0.1)])
def test_activate_before_carries_the_activated_input(slope: float, factor: float) -> None:
    x = torch.randn(2, 4, 6, 6)
    normed = x / (1 + 1e-5) ** 0.5  # batch norm at its initial statistics
    carried = silent(Unit(4, 4, 1, slope, free_shortcut=False, activate_before=True))(x)
    torch.testing.assert_close(carried, torch.where(normed > 0, normed, factor * normed))
    assert torch.equal(silent(Unit(4, 4, 1, slope, free_shortcut=False, activate_before=False))(x), x)


def test_a_projection_reads_the_activated_input_and_an_identity_the_raw_one() -> None:
    assert [u.activate_before for u in on_meta("wrn_16_2").units] == [True, False] * 3
    assert [u.activate_before for u in on_meta("wrn_16_1").units] == [False, False, True, False, True, False]
    assert [isinstance(u.shortcut, nn.Conv2d) for u in on_meta("wrn_16_1").units] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    preact = on_meta("preact_resnet18").units
    assert [u.activate_before for u in preact] == [isinstance(u.shortcut, nn.Conv2d) for u in preact]
    assert sum(u.activate_before for u in preact) == 3


def test_depth_and_width() -> None:
    with torch.device("meta"):
        model = WideResNet(22, 3)
    assert isinstance(model.units, nn.Sequential)
    assert len(model.units) == 9
    assert [model.get_parameter(f"units.{i}.conv2.weight").shape[0] for i in (0, 3, 6)] == [48, 96, 192]


def test_initialisation_is_he_by_fan_out() -> None:
    torch.manual_seed(0)
    model = networks.create("wrn_16_4", num_classes=10, input_size=32)
    weight = model.get_parameter("units.3.conv2.weight")
    assert float(weight.detach().std()) == pytest.approx((2 / (weight.shape[0] * 9)) ** 0.5, rel=0.02)
    assert float(model.get_parameter("head.bias").detach().abs().max()) == 0


@pytest.mark.parametrize("name", ["WRN-28-10", "wrn_28_10", " Wrn-28_10 "])
def test_names_are_found_in_any_spelling(name: str) -> None:
    assert networks.canonical(name) == "wrn_28_10"


def test_unknown_names() -> None:
    with pytest.raises(NetworkError, match=r"unknown network 'wrn-28-11': did you mean 'wrn_28_10'"):
        networks.canonical("wrn-28-11")
    with pytest.raises(NetworkError, match="did you mean 'resnet50'"):
        networks.canonical("resnet5O")
    with pytest.raises(
        NetworkError, match=r"unknown network 'qqq': known: convstem_convnext, .*wrn_16_1, .* more\.$"
    ) as caught:
        networks.canonical("qqq")
    assert len(str(caught.value)) < 400, "timm's thousand names help nobody"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("wrn_16_1", {"widht": 2}, "cannot build the network 'wrn_16_1' for 32x32 images: .*'widht'"),
        ("resnet18", {"widht": 2}, "cannot build the network 'resnet18' for 32x32 images: .*'widht'"),
        ("resnet18", {"checkpoint_path": "evil.pt"}, "'checkpoint_path' is no setting of the network 'resnet18'"),
        ("resnet18", {"pretrained": True}, "'pretrained' is no setting"),
        ("resnet18", {"pretrained_cfg": {"file": "evil.pt"}}, "'pretrained_cfg' is no setting"),
    ],
)
def test_settings_that_do_not_exist_or_load_files_are_refused(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(NetworkError, match=message):
        networks.create(name, num_classes=10, input_size=32, **settings)


def test_there_are_no_pretrained_weights_of_ours_in_timm() -> None:
    with pytest.raises(ValueError, match="wrn_16_1 has no pretrained weights"):
        timm.create_model("wrn_16_1", pretrained=True)
    assert timm.create_model("wrn_16_1", num_classes=3, in_chans=1).conv1.in_channels == 1


def test_modules_can_be_reloaded_and_star_imported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(networks.resnet)
        networks.add_to_timm()
    for name in networks.resnet.__all__:
        assert hasattr(networks.resnet, name)


def test_a_name_of_timms_is_not_taken_silently() -> None:
    def entry(**settings: object) -> nn.Module:
        raise AssertionError

    original = timm.model_entrypoint("resnet18")
    try:
        networks.names.register("resnet18", "ours", entry, networks.resnet.__name__)
        with pytest.warns(UserWarning, match="Overwriting resnet18"):
            networks.add_to_timm()
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            timm.models.register_model(original)
        for names in (networks.names.OURS, networks.names._IN_TIMM, vars(networks.resnet)):
            del names["resnet18"]
        networks.resnet.__all__.remove("resnet18")


def test_networks_that_depend_on_the_image_size_are_told() -> None:
    vit = networks.create("vit_tiny_patch16_224", num_classes=0, input_size=32, depth=1)
    assert vit.get_parameter("pos_embed").shape[1] == 1 + (32 // 16) ** 2
