"""``timm:`` names, from a small Hub of our own: timm's network, pixels and classes; tags; what is at hand already."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from foreign_helpers import same
from library_helpers import computes_as, lively, stored
from safetensors.torch import save
from small_hub import COMMIT, Hub, offline, small_hub
from timm.data import create_transform, resolve_model_data_config
from torch import nn

from robust_transfer.checkpoint import load_checkpoint
from robust_transfer.download import transfer
from robust_transfer.errors import CheckpointError, ConfigError, UnknownNameError
from robust_transfer.foreign import from_timm
from robust_transfer.foreign.contents import Contents
from robust_transfer.sources import list_sources, load_source
from robust_transfer.sources.timm_named import FromTimm

SMALL = "resnet10t.c3_in1k"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "_wait", lambda _: None)
    with small_hub(monkeypatch, tmp_path / "hub") as found:
        yield found


def made(name: str, **settings: Any) -> nn.Module:
    """timm's network with random weights, as after training."""
    return lively(timm.create_model(name, pretrained=False, **settings))


def publish(hub: Hub, name: str, module: nn.Module, file: str = "model.safetensors") -> None:
    config = json.dumps({"architecture": name.partition(".")[0]}).encode()
    state = {key: value.contiguous() for key, value in module.state_dict().items()}
    content = save(state) if file.endswith(".safetensors") else stored(module)[0]
    hub.repositories[timm.get_pretrained_cfg(name).hf_hub_id] = {file: content, "config.json": config}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (SMALL, "model.safetensors"),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "pytorch_model.bin"),
        pytest.param("mobilenetv3_small_050.lamb_in1k", "model.safetensors", marks=pytest.mark.slow),
        pytest.param("dla34.in1k", "model.safetensors", marks=pytest.mark.slow),  # its last layer is a convolution
    ],
)
def test_it_computes_what_timm_computes(name: str, file: str, hub: Hub) -> None:
    module = made(name)
    publish(hub, name, module, file)
    found = load_source(f"timm:{name}")
    computes_as(found, module, create_transform(**resolve_model_data_config(module), is_training=False))
    card = found.card
    assert (card.network.name, card.network.num_classes, card.threat) == (name.partition(".")[0], 1000, None)
    assert card.class_names[:2] == ("tench", "goldfish")
    assert card.data["name"] == f"timm:{name}"
    assert card.origin["published"] == f"as timm {timm.__version__} publishes it"
    assert card.origin["normalisation"] == card.origin["published"]
    assert card.origin["file"] == f"hf:timm/{name}@{COMMIT}/{file}"
    assert (card.origin["revision"], card.origin["decided_by"]) == (COMMIT, "the only one")
    assert card.origin["threat"].startswith("none: timm")


def test_names_and_tags_have_several_spellings() -> None:
    kind = FromTimm()
    for spelling in ("resnet50.a1_in1k", "resnet50@a1_in1k", "ResNet50@A1_in1k", "resnet50", "resnet50@"):
        assert kind.canonical(f"timm:{spelling}") == "timm:resnet50.a1_in1k"
    assert kind.canonical("timm:resnet50.ram_in1k") == "timm:resnet50.ram_in1k"
    assert kind.canonical("timm:tf_efficientnet_b0_ap") == "timm:tf_efficientnet_b0.ap_in1k"  # timm's name of 2022


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        (
            "timm:resnet51",
            UnknownNameError,
            "unknown network of timm 'resnet51': did you mean 'resnet51q' or 'resnet50'",
        ),
        ("timm:", UnknownNameError, "unknown network of timm ''"),
        ("timm:wrn_16_1", UnknownNameError, "unknown network of timm 'wrn_16_1'"),  # ours
        ("timm:resnet10t@a9", UnknownNameError, "timm has no weights 'a9' of 'resnet10t': it has c3_in1k"),
        ("timm:resnet50.a1_in1k@a2_in1k", ConfigError, "has two tags: write timm:resnet50.a1_in1k or"),
        (
            "timm:convnextv2_small",
            ConfigError,
            "timm publishes no weights of 'convnextv2_small'; like it are convnext_small",
        ),
        (
            "timm:deit_tiny_distilled_patch16_224",
            ConfigError,
            r"has several heads \(head, head_dist\): only networks with",
        ),
        ("timm:vit_base_patch16_sapiens2", ConfigError, "cannot be a source: .* only RGB squares"),
    ],
)
def test_names_that_are_none(name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load_source(name)


def test_what_is_in_the_caches_is_not_got_again(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = made(SMALL)
    publish(hub, SMALL, module)
    first = load_source(f"timm:{SMALL}")
    offline(monkeypatch)
    hub.asked.clear()
    assert load_source("timm:resnet10t").hash == first.hash
    assert hub.asked == []
    publish(hub, "resnet18.a1_in1k", made("resnet18"))
    content, sha256 = stored(timm.create_model("resnet18", num_classes=1000))
    own = timm.get_pretrained_cfg("resnet18.a1_in1k")
    assert own.url.endswith("resnet18_a1_0-d63eafa0.pth")
    kept = tmp_path / "cache" / "hub" / "checkpoints" / "resnet18_a1_0-d63eafa0.pth"
    with pytest.raises(CheckpointError) as caught:
        FromTimm().get("timm:resnet18.a1_in1k")
    assert "the Hub must not be asked (HF_HUB_OFFLINE)" in str(caught.value)
    assert str(caught.value).endswith(f"; or get {own.url} and put it at {kept}")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)  # another hash than its name states
    with pytest.raises(CheckpointError, match="the Hub must not be asked"):
        FromTimm().get("timm:resnet18.a1_in1k")
    address = f"https://nowhere.invalid/resnet18_a1_0-{sha256[:8]}.pth"
    cfg = replace(own, url=address)
    monkeypatch.setattr("robust_transfer.sources.timm_named._config", lambda _: cfg)
    kept.rename(kept.with_name(f"resnet18_a1_0-{sha256[:8]}.pth"))
    got = FromTimm().get("timm:resnet18.a1_in1k")
    assert (got.address, got.sha256) == (address, sha256)
    assert hub.asked == []


def test_a_file_of_another_network_is_refused(hub: Hub) -> None:
    publish(hub, SMALL, made("resnet18"))
    with pytest.raises(CheckpointError, match=r"does not fit timm's network: .*Missing key"):
        load_source(f"timm:{SMALL}")


def test_what_lacks_a_part_is_refused_where_timm_is_not_strict(hub: Hub) -> None:
    """timm loads a DLA with what there is, and leaves the rest as it was drawn."""
    module = made("dla46_c")
    state = {key: value for key, value in module.state_dict().items() if key != "base_layer.0.weight"}
    hub.repositories["timm/dla46_c.in1k"] = {"model.safetensors": save(state), "config.json": b"{}"}
    with pytest.raises(CheckpointError, match=r"lacks 'base_layer\.0\.weight': it is another network's, or damaged"):
        load_source("timm:dla46_c")


def test_a_network_that_computes_otherwise_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, SMALL, made(SMALL))
    whole = from_timm._loaded

    def another(full: str, given: Any, settings: Any) -> nn.Module:
        module = whole(full, given, settings)
        module.act1 = nn.GELU()
        return module

    monkeypatch.setattr(from_timm, "_loaded", another)
    with pytest.raises(CheckpointError, match=r"the logits are not those of timm .*'s own network \(apart by"):
        load_source(f"timm:{SMALL}")


def test_outputs_that_are_no_classes_are_not_taken_for_any(hub: Hub, tmp_path: Path) -> None:
    """A projection to where texts lie; a head of several layers."""
    config = timm.get_pretrained_cfg(SMALL)
    assert from_timm._no_classes(config, "c3_in1k") == ""
    assert (
        from_timm._no_classes(replace(config, num_classes=512), "openai")
        == "its 512 outputs are no classes that timm names"
    )
    assert from_timm._no_classes(replace(config, num_classes=0), "lvd142m") == "it is published without classes"
    for tag in ("in21k", "fb_in22k_ft_in1k_384", "sbb2_e200_in12k", "fb_inw21k"):
        assert from_timm._no_classes(config, tag) == "", tag
    module = made("shvit_s1")
    publish(hub, "shvit_s1.in1k", module)
    found = load_source("timm:shvit_s1")
    assert found.card.criterion.startswith("features only")
    assert found.card.origin["inferred"][-1] == "features only: its head 'head.l' has more layers than the last one"
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        bare: Any = module
        expected = bare.forward_head(bare.forward_features(found.classifier.normalise(x)), pre_logits=True)
        same(found.classifier.features(x), expected)
    found.save(tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").hash == found.hash


def test_larger_sets_of_classes_have_wordnets_numbers() -> None:
    names = from_timm._class_names(21843)
    assert names is not None
    assert (len(names), names[0]) == (21843, "n00004475")
    assert from_timm._class_names(1000) is None
    assert from_timm._class_names(19168) is None


def test_adversarial_training_without_a_threat_is_said() -> None:
    config = timm.get_pretrained_cfg("tf_efficientnet_b0.ap_in1k")
    module = made("tf_efficientnet_b0")
    contents = Contents(module.state_dict(), "safetensors")
    _, published, _, _ = from_timm.reading("tf_efficientnet_b0.ap_in1k", config, contents, module.state_dict(), "here")
    assert published.threat.startswith("none: AdvProp")


def test_names_are_listed_as_a_kind() -> None:
    listed = list_sources()
    assert listed["timm:NAME[@TAG]"] == "a network as timm publishes it, such as timm:resnet50@a1_in1k"
    assert listed["torchvision:NAME[@WEIGHTS]"].startswith("an ImageNet network as torchvision publishes it")
