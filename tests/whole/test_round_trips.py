"""Contract of every way out of this package: the same logits as plain PyTorch, on real photos, for every kind of network.

Right values are PyTorch's on what torchvision's transforms make of the photos.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from small_hub import small_hub
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

import robust_transfer as rt
from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.exporting.deployed import Input
from robust_transfer.preprocessing import Normalisation, Preprocessing

pytestmark = pytest.mark.slow

BATCHES = (1, 3, 7)
ODD = Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
CROP = Preprocessing(size=48, short=57, resize="crop", interpolation="bilinear", normalisation=ODD)
SQUASH = Preprocessing(size=64, normalisation=Normalisation())
Run = Callable[
    [list[Image.Image], Tensor], Tensor
]  # photos of one size, and their pixels as the network reads them: logits


def made(name: str, how: Preprocessing) -> Checkpoint:
    """A network of timm's with random weights, whose batch norms are not the identity."""
    torch.manual_seed(3)
    classifier = Classifier.build(NetworkSpec(name=name, num_classes=4, preprocessing=how)).eval()
    for key, value in classifier.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(std=0.1)
    return Checkpoint(classifier, Card(network=classifier.spec, class_names=tuple("abcd"), method="made"))


FAMILIES: dict[str, Callable[[], Checkpoint]] = {
    "bundled": partial(rt.load_source, "bundled"),
    "bundled-64": partial(rt.load_source, "bundled-64"),
    "timm ViT": partial(made, "vit_tiny_patch16_224", SQUASH),
    "ResNet with its own preprocessing": partial(made, "resnet18", CROP),
}


def photos(n: int) -> list[Image.Image]:
    """Parts of scikit-learn's photos, of one size that is no network's."""
    rng, whole = np.random.default_rng(n), load_sample_images().images
    corners = [(int(rng.integers(0, 427 - 150)), int(rng.integers(0, 640 - 117))) for _ in range(n)]
    return [Image.fromarray(whole[i % 2][y : y + 150, x : x + 117]) for i, (y, x) in enumerate(corners)]


def as_read(images: list[Image.Image], how: Preprocessing) -> Tensor:
    """Pixels uint8 ``(n, 3, size, size)``, by torchvision."""
    mode, short = InterpolationMode(how.interpolation), how.short or how.size
    side: Any = short if how.resize == "crop" else (short, short)
    transform = v2.Compose([v2.Resize(side, mode), v2.CenterCrop(how.size), v2.PILToTensor()])
    return torch.stack([transform(image) for image in images])


def plain(model: Checkpoint, pixels: Tensor) -> Tensor:
    found: Tensor = model.classifier.copy().eval()(pixels.float() / 255)
    return found


def bytes_last(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 2, 3, 1).contiguous()


def exported(model: Checkpoint, to: str, kind: Input, resize: bool, folder: Path) -> Run:
    path = rt.export(model, to, folder / f"{to}-{kind}-{resize}", input=kind, resize_inside=resize).path  # type: ignore[arg-type]
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

        def network(x: Tensor) -> Tensor:
            return torch.from_numpy(session.run(["logits"], {"pixels": x.numpy()})[0])

    else:
        module: Any = torch.export.load(path).module()

        def network(x: Tensor) -> Tensor:
            found: Tensor = module(x)[0]
            return found

    def run(images: list[Image.Image], pixels: Tensor) -> Tensor:
        if resize:
            return network(torch.from_numpy(np.stack([np.asarray(image) for image in images])))
        return network(bytes_last(pixels) if kind == "uint8" else pixels.float() / 255)

    return run


def by_timm(model: Checkpoint, folder: Path) -> Run:
    rt.export(model, "timm", folder / "timm")
    module = timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(module), is_training=False)
    return lambda images, _: module(torch.stack([transform(image) for image in images]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["uint8", "float32", "resize"])
@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_files_say_what_pytorch_says(family: str, kind: str, to: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = FAMILIES[family]()
    run = exported(model, to, "float32" if kind == "float32" else "uint8", kind == "resize", tmp_path)
    same(model, run)


@pytest.mark.parametrize("family", ["timm ViT", "ResNet with its own preprocessing"])
def test_folders_of_timm_say_what_pytorch_says(family: str, tmp_path: Path) -> None:
    model = FAMILIES[family]()
    same(model, by_timm(model, tmp_path))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hub_says_what_pytorch_says(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES[family]()
    with small_hub(monkeypatch, tmp_path / "hub"):
        rt.push_to_hub(model, "acme/one")
        rt.HubModel(model).push_to_hub("acme/two")
        loaded, module = rt.load_source("hf:acme/one"), rt.HubModel.from_pretrained("acme/two")
    same(model, lambda _, pixels: loaded.classifier(pixels.float() / 255))
    same(model, lambda _, pixels: module(pixels.float() / 255))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_estimator_says_what_pytorch_says(family: str) -> None:
    """Of the network that it has made: from photos of one kind and the other to which it is."""
    learned = photos(24)
    estimator = rt.RobustTransferClassifier(FAMILIES[family](), val=0, settings={"l2": 0.01}, random_state=0)
    estimator.fit(np.stack([np.asarray(image) for image in learned]), ["temple", "flower"] * 12)
    model = estimator.model_
    for n in BATCHES:
        images = photos(n)
        found = estimator.predict_proba(np.stack([np.asarray(image) for image in images]))
        with torch.no_grad():
            wanted = plain(model, as_read(images, model.preprocessing)).softmax(1)
        names = [estimator.classes_.tolist().index(name) for name in model.card.class_names]
        assert np.abs(found[:, names] - wanted.numpy()).max() <= 1e-4


def same(model: Checkpoint, run: Run) -> None:
    for n in BATCHES:
        images = photos(n)
        pixels = as_read(images, model.preprocessing)
        with torch.no_grad():
            wanted, found = plain(model, pixels), run(images, pixels)
        assert found.shape == wanted.shape
        assert float((found - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
