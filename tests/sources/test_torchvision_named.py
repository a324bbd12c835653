"""``torchvision:`` names, from a server of our own: torchvision's network, pixels and classes; whatever else is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torchvision
from library_helpers import computes_as, lively, stored
from torch import nn
from web import Reply, Site, serving

from robust_transfer.download import transfer
from robust_transfer.download.addresses import stated_sha256
from robust_transfer.errors import CheckpointError, ConfigError, UnknownNameError
from robust_transfer.foreign.hints import Hints
from robust_transfer.sources import load_source
from robust_transfer.sources.inspection import inspected
from robust_transfer.sources.torchvision_named import FromTorchvision
from robust_transfer.threat import Threat

Publish = Callable[..., Any]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "_wait", lambda _: None)
    with serving() as site:
        yield site


@pytest.fixture
def publish(site: Site, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Weights of torchvision's, but random, at an address on this machine; returns their entry."""

    def published(name: str, weights: str = "DEFAULT", digits: str | None = None, **settings: Any) -> Any:
        module = lively(torchvision.models.get_model(name, weights=None, **settings))
        content, sha256 = stored(module)
        entry = torchvision.models.get_model_weights(name)[weights]
        path = f"/{name}-{digits or sha256[:8]}.pth"
        site.pages[path] = Reply(content)
        monkeypatch.setattr(entry.value, "url", f"{site.address}{path}")
        return entry

    return published


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mobilenet_v3_small", {}),
        ("squeezenet1_1", {}),
        ("mnasnet0_5", {}),
        # it transforms its inputs wherever it is given weights
        pytest.param("googlenet", {"init_weights": False}, marks=pytest.mark.slow),
        pytest.param("resnet18", {}, marks=pytest.mark.slow),
    ],
)
def test_it_computes_what_torchvision_computes(
    name: str, settings: dict[str, Any], publish: Publish, site: Site
) -> None:
    entry = publish(name, **settings)
    found = load_source(f"torchvision:{name}")
    own = torchvision.models.get_model(
        name, weights=entry
    )  # from the file that we have put there: nothing is got twice
    assert [asked.path for asked in site.asked] == [f"/{entry.url.rpartition('/')[2]}"]
    computes_as(found, own, entry.transforms())
    card = found.card
    assert card.class_names == tuple(entry.meta["categories"])
    assert (card.threat, card.criterion) == (None, "as it was published")
    assert card.origin["published"] == f"as torchvision {torchvision.__version__.partition('+')[0]} publishes it"
    assert card.origin["published_accuracy"] == {
        f"ImageNet-1K {what}": value for what, value in entry.meta["_metrics"]["ImageNet-1K"].items()
    }
    assert card.origin["threat"].startswith("none: torchvision")
    assert card.origin["proof"].startswith("its logits on an image of noise are those of torchvision")


def test_a_set_of_weights_has_a_name(publish: Publish) -> None:
    first, second = (publish("mobilenet_v2", weights) for weights in ("IMAGENET1K_V1", "IMAGENET1K_V2"))
    found = load_source("torchvision:mobilenet-v2@imagenet1k_v1")
    assert found.card.data["name"] == "torchvision:mobilenet_v2@IMAGENET1K_V1"
    assert found.card.origin["file"] == first.url
    assert found.preprocessing.short == 256
    kind = FromTorchvision()
    for name in ("torchvision:mobilenet_v2", "torchvision:mobilenet_v2@DEFAULT"):
        assert kind.canonical(name) == "torchvision:mobilenet_v2@IMAGENET1K_V2"
        assert kind.get(name).address == second.url


@pytest.mark.slow
def test_files_of_2017_have_dots_in_names(publish: Publish, site: Site) -> None:
    entry = publish("densenet121")
    module = lively(torchvision.models.densenet121(weights=None))
    state = {
        key.replace("norm1.", "norm.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2.")
        if "denselayer" in key
        else key: value
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    holder = nn.Module()
    holder.state_dict = lambda: state  # type: ignore[method-assign,assignment]
    content, sha256 = stored(holder)
    site.pages[f"/d-{sha256[:8]}.pth"] = Reply(content)
    entry.value.url = f"{site.address}/d-{sha256[:8]}.pth"  # the fixture puts it back
    found = load_source("torchvision:densenet121")
    assert any("names of an older layout" in note for note in found.card.origin["notes"])
    computes_as(found, module, entry.transforms())


def test_another_hash_than_the_name_states_is_refused(publish: Publish, tmp_path: Path) -> None:
    entry = publish("mobilenet_v3_small", digits="deadbeef")
    with pytest.raises(CheckpointError, match="and deadbeef was to be expected"):
        load_source("torchvision:mobilenet_v3_small")
    kept = tmp_path / "cache" / "hub" / "checkpoints" / entry.url.rpartition("/")[2]
    assert not kept.exists()
    kept.write_bytes(b"\x80\x02damaged")
    with pytest.raises(CheckpointError, match=r"checkpoints/mobilenet_v3_small-deadbeef\.pth has the sha256"):
        load_source("torchvision:mobilenet_v3_small")


def test_without_a_network_the_sentence_says_which_file_goes_where(
    publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = publish("mobilenet_v3_small")
    name = entry.url.rpartition("/")[2]
    monkeypatch.setattr(entry.value, "url", f"http://127.0.0.1:9/{name}")
    with pytest.raises(
        CheckpointError, match=rf"was not reached .* get the file yourself and put it at .*/hub/checkpoints/{name}"
    ):
        load_source("torchvision:mobilenet_v3_small")


def test_a_file_of_another_network_is_refused(publish: Publish, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    other, entry = publish("squeezenet1_0"), publish("mobilenet_v3_small")
    monkeypatch.setattr(entry.value, "url", other.url)
    with pytest.raises(CheckpointError, match=r"does not fit torchvision's network: .*Missing key"):
        load_source("torchvision:mobilenet_v3_small")


def test_what_is_said_and_what_is_not(publish: Publish) -> None:
    publish("mobilenet_v3_small")
    page = inspected("torchvision:mobilenet_v3_small", Hints(threat=Threat.parse("linf:4/255")))
    rows = dict(page.rows())
    assert "ImageNet-1K acc@1 67.7 %" in rows["published"]
    assert rows["input"] == "224 pixels: the shorter side to 256 pixels (bilinear), then the central 224 x 224"
    assert rows["threat"] == "linf:4/255 (given)"
    page = inspected("torchvision:mobilenet_v3_small", Hints(size=112))
    rows = dict(page.rows())
    assert rows["threat"].startswith("none: torchvision")
    assert rows["input"].startswith("112 pixels: the shorter side to 128 pixels")
    for hints in (Hints(network="resnet18"), Hints(settings={"a": 1}), Hints(weights="best")):
        with pytest.raises(ConfigError, match="says itself which network it is"):
            load_source("torchvision:mobilenet_v3_small", hints=hints)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        (
            "torchvision:resnet51",
            UnknownNameError,
            "unknown network of torchvision 'resnet51': did you mean 'resnet50'",
        ),
        ("torchvision:", UnknownNameError, "unknown network of torchvision ''"),
        (
            "torchvision:resnet50@V3",
            UnknownNameError,
            "no weights 'V3' of 'resnet50': it has IMAGENET1K_V1, IMAGENET1K_V2",
        ),
        ("torchvision:mnasnet0_5@IMAGENET1K_V9", UnknownNameError, "it has IMAGENET1K_V1"),
        ("torchvision:fasterrcnn_resnet50_fpn", ConfigError, "for detection: only those for classification are read"),
        ("torchvision:fcn_resnet50", ConfigError, "for segmentation: only"),
        ("torchvision:quantized_resnet18", ConfigError, "for quantization: only"),
        ("torchvision:vgg16@IMAGENET1K_FEATURES", ConfigError, "has no classes.* there are IMAGENET1K_V1"),
    ],
)
def test_names_that_are_none(name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load_source(name)


def test_all_of_torchvisions_files_state_their_hash() -> None:
    """So that torch.hub's own files are found, and every one is checked."""
    names = torchvision.models.list_models(module=torchvision.models)
    addresses = [entry.url for name in names for entry in torchvision.models.get_model_weights(name)]
    assert len(addresses) > 100
    assert [url for url in addresses if stated_sha256(url.rpartition("/")[2]) is None] == []
