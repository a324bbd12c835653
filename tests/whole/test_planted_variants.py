"""Networks of every kind under readings that are not the likeliest: decided rightly, by evidence that is shown, or refused."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from foreign_states import photos
from published_families import AUTHORS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.data import Split, to_pixels
from robust_transfer.foreign.evidence import UndecidedError
from robust_transfer.foreign.finding import find
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.importing import bring_in
from robust_transfer.foreign.normalisations import NORMALISATIONS

WITHOUT_BATCH_NORM = {
    "timm": "imagenet",
    "convstem": "imagenet",
    "clip": "none",
}  # with a normaliser that is not the likeliest


def pictures(n: int, size: int, seed: int) -> Tensor:
    return (F.interpolate(photos(n, seed), size=(size, size), mode="nearest") * 255).round() / 255


def as_split(x: Tensor, labels: Tensor | None = None, classes: int = 10) -> Split:
    """Labels of classes called by numbers, as those of networks that nobody names; without, of two other classes."""
    names = tuple(map(str, range(classes))) if labels is not None else ("a", "b")
    return Split.in_memory((x * 255).round().byte(), torch.zeros(len(x)).long() if labels is None else labels, names)


def normalised(x: Tensor, name: str) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (NORMALISATIONS[name].mean, NORMALISATIONS[name].std))
    return (x - mean) / std


def saved(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("family", WITHOUT_BATCH_NORM)
def test_without_batch_norm_labels_decide_and_nothing_else(family: str, tmp_path: Path) -> None:
    if family == "clip" and importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is missing")
    author, true = AUTHORS[family], WITHOUT_BATCH_NORM[family]
    state = author.make()
    path, x = saved(tmp_path / "net.pt", state), pictures(64, author.size, 3)
    hints = Hints(settings=author.settings or None, size=author.size)
    with pytest.raises(
        UndecidedError, match=r"without batch norm there is no other: .*say which \(`import` takes --norm"
    ):
        bring_in(find(path, hints=hints), as_split(x))
    said = bring_in(find(path, hints=Hints(**{**vars(hints), "normalisation": NORMALISATIONS[true]})), as_split(x))
    assert said.card.origin["decided_by"] == "the only one"
    if said.headless:  # no labels can tell
        return
    exact = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
    seen = to_pixels(as_split(x).prepared(said.preprocessing).images())  # photos are cropped
    with torch.no_grad():
        logits = author.forward(exact, normalised(seen, true).double())
    labels = (logits - logits.mean(0)).argmax(1)  # all classes, whatever the biases of random weights
    state[_bias(state)] = state[_bias(state)] - logits.mean(0).float()
    path = saved(tmp_path / "net.pt", state)
    made = bring_in(find(path, hints=hints), as_split(x, labels))
    assert made.preprocessing.normalisation == NORMALISATIONS[true]
    assert made.card.origin["decided_by"] == "clean accuracy"
    evidence = made.card.origin["evidence"]
    assert [row["chosen"] for row in evidence] == [True, *[False] * (len(evidence) - 1)]
    assert evidence[0]["accuracy"]["value"] > 0.95 > evidence[1]["accuracy"]["value"]
    with pytest.raises(UndecidedError, match="more often than chance"):
        bring_in(find(path, hints=hints), as_split(x, (labels + 1) % 10))


def _bias(state: dict[str, Tensor]) -> str:
    return next(key for key, value in state.items() if key.startswith("head") and value.shape == (10,))


def calibrated(module: nn.Module, x: Tensor) -> nn.Module:
    """Batch-norm statistics of ``x``, as after training on it."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.momentum = None
            part.reset_running_stats()
    with torch.no_grad():
        module.train()(x)
    return module.eval()


def other_activation(module: nn.Module, activation: type[nn.Module]) -> nn.Module:
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(part, name, activation())
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "normaliser"), [("gelu", "none"), ("silu", "imagenet"), ("relu", "half")])
def test_torchvisions_with_another_activation(activation: str, normaliser: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    kinds = {"gelu": nn.GELU, "silu": nn.SiLU, "relu": nn.ReLU}
    net = other_activation(torchvision.models.resnet18(num_classes=10), kinds[activation])
    calibrated(net, normalised(pictures(96, 64, 1), normaliser))
    path = saved(tmp_path / "net.pt", net.state_dict())
    made = bring_in(find(path, hints=Hints(size=64)), as_split(pictures(48, 64, 2)))
    assert made.card.network.settings["act_layer"] == activation
    assert made.preprocessing.normalisation == NORMALISATIONS[normaliser]
    x = pictures(4, 64, 5)
    with torch.no_grad():
        torch.testing.assert_close(made.classifier(x), net(normalised(x, normaliser)), rtol=1e-5, atol=1e-5)


def with_patches(net: Any, patch: int) -> nn.Module:
    """XCiT whose first convolutions step by one pixel (Debenedetti et al. 2023): as many of them as halve the patch."""
    halvings = {16: 0, 8: 1, 4: 2}[patch]
    for part in [part for part in net.patch_embed.proj.modules() if isinstance(part, nn.Conv2d)][:halvings]:
        part.stride = (1, 1)
    net.patch_embed.patch_size = patch
    return net  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize(("patch", "normaliser"), [(4, "none"), (8, "cifar10"), (16, "half")])
def test_xcits_patches(patch: int, normaliser: str, tmp_path: Path) -> None:
    """Strides move the statistics of the stem's norms so little that a patch is decided, or refused, but never guessed."""
    torch.manual_seed(0)
    net = with_patches(timm.create_model("xcit_nano_12_p16_224", num_classes=10), patch)
    calibrated(net, normalised(photos(200, 1), normaliser))
    path = saved(tmp_path / "net.pt", net.state_dict())
    with suppress(UndecidedError):
        made = bring_in(find(path, hints=Hints(size=32)), as_split(photos(64, 2)))
        assert made.card.network.settings["patch"] == patch
        assert made.preprocessing.normalisation == NORMALISATIONS[normaliser]
    given = bring_in(find(path, hints=Hints(size=32, settings={"patch": patch})), as_split(photos(64, 2)))
    assert given.preprocessing.normalisation == NORMALISATIONS[normaliser]


def test_statistics_of_another_network_are_refused(tmp_path: Path) -> None:
    """An average whose statistics are those of somebody else's weights: no reading comes near them."""
    state = AUTHORS["kuangliu"].make()
    with pytest.raises(UndecidedError, match="too unlike those of training"):
        bring_in(find(saved(tmp_path / "net.pt", state)), as_split(photos(64, 2)))
