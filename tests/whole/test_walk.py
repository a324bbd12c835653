"""The newcomer's walk: a source of ours as somebody else's file is the same network, and what was said is read rightly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from as_published import as_madry
from walk import answer

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.reading import read_weights
from robust_transfer.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Normalisation, Preprocessing
from robust_transfer.sources import load_source


def for_photos() -> Checkpoint:
    """ResNet-18 as it is drawn, with ImageNet's normaliser, for 64 pixels."""
    torch.manual_seed(0)
    how = Preprocessing(size=64, normalisation=Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD))
    spec = NetworkSpec(name="resnet18", num_classes=7, preprocessing=how)
    return Checkpoint(
        Classifier.build(spec).eval(), replace(load_source("bundled").card, network=spec, class_names=tuple("abcdefg"))
    )


@pytest.mark.parametrize(
    ("make", "settings", "family", "crop"),
    [
        (lambda: load_source("bundled"), {"shortcut": "activated", "activation": "relu"}, "rice-preact-resnet", False),
        (for_photos, {"act_layer": "relu"}, "torchvision", True),
    ],
    ids=["CIFAR", "ImageNet"],
)
def test_a_file_of_madrylabs_is_the_network_that_it_was_made_of(
    make: Callable[[], Checkpoint], settings: dict[str, str], family: str, crop: bool, tmp_path: Path
) -> None:
    own = make()
    path = as_madry(own, tmp_path / "net.pt")
    stored = read_weights(path).tree["model"]
    assert {name.split(".")[1] for name in stored} == {"model", "attacker", "normalizer"}
    normaliser = own.preprocessing.normalisation
    assert stored["module.normalizer.new_mean"].flatten().tolist() == pytest.approx(normaliser.mean)
    found = load_source(path, hints=Hints(settings=settings))
    assert found.card.origin["family"] == family
    assert found.card.threat is None
    assert (found.preprocessing.resize == "crop") == crop
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(found.classifier(x), own.classifier(x), rtol=1e-5, atol=1e-5)


def test_a_network_that_no_public_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="preact_resnet18_w32_64 is in nobody's file"):
        as_madry(load_source("bundled-64"), tmp_path / "net.pt")


def test_answers_of_the_script_are_read() -> None:
    assert answer("English springer 93.1 % photos/a 5 % b.jpg") == ("photos/a 5 % b.jpg", "English springer")
