"""A source is one of the package's or a run folder; every other name gets an answer."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from helpers import make_classifier, same_state
from safetensors.torch import load_file

from robust_transfer import sources
from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.errors import CheckpointError, UnknownNameError
from robust_transfer.sources import list_sources, load_source
from robust_transfer.threat import Threat


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classifier = make_classifier()
    names = tuple("0123456789")
    card = Card(
        network=classifier.spec,
        class_names=names,
        method="pretrain:fast",
        threat=Threat.parse("linf:8/255"),
        data={"name": "cifar100"},
    )
    folder = tmp_path_factory.mktemp("runs") / "lwf-one"
    Checkpoint(classifier, card).save(folder)
    return folder


def test_a_run_folder_is_a_source(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (run_folder, str(run_folder), f"{run_folder}/"):
        assert same_state(load_source(name).classifier, make_classifier())
    monkeypatch.chdir(run_folder.parent)
    assert load_source("lwf-one").card.method == "pretrain:fast"
    monkeypatch.setenv("HOME", str(run_folder.parent))
    assert load_source("~/lwf-one").card.method == "pretrain:fast"


@pytest.mark.parametrize("name", sources.PACKAGED)
def test_a_source_of_the_package(name: str, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).symlink_to(run_folder)
    monkeypatch.setattr(sources.packaged, "_PACKAGE", tmp_path)
    assert load_source(name).card.threat == Threat.parse("linf:8/255")
    listed = list_sources()
    assert listed[name].startswith("wrn_16_1, pretrain:fast on cifar100 for linf:8/255, 8 pixels")
    kinds = ["robustbench:DATASET/THREAT/NAME", "hf:OWNER/REPO[@REVISION][/FILE]", "https://...", "FOLDER", "FILE"]
    kinds += ["timm:NAME[@TAG]", "torchvision:NAME[@WEIGHTS]"]
    assert sorted(listed) == sorted(["auto", "bundled", "bundled-64", "natural", *kinds])
    for other in set(sources.PACKAGED) - {name}:
        assert listed[other] == "not in this installation"
        with pytest.raises(CheckpointError, match=f"this installation has no {other} source: give a run folder"):
            load_source(other)


@pytest.mark.parametrize("name", sources.PACKAGED)
def test_the_sources_are_package_data(name: str) -> None:
    folder = Path(sources.__file__).parents[1] / "weights" / name
    source, weights = load_source(name), folder / "model.safetensors"
    assert weights.stat().st_size <= 6e6
    assert {tensor.dtype for tensor in load_file(weights).values() if tensor.is_floating_point()} == {torch.float16}
    assert sum(p.numel() for p in source.classifier.parameters()) <= 3e6
    assert (source.preprocessing.size, len(source.card.class_names)) == (
        (64, 200) if name == "bundled-64" else (32, 100)
    )
    for figure in ("test_clean_accuracy", "test_robust_accuracy"):
        assert source.card.metrics[figure]["n"] == (4_000 if name == "bundled-64" else 10_000)
        assert f"{source.card.metrics[figure]['value']:.4f}" in (folder / "README.md").read_text()
    assert list_sources()[name].startswith(source.card.network.name)
    assert source.trained_on is not None
    assert source.card.fingerprints["complete"]


def test_the_natural_twin_differs_in_the_method_alone() -> None:
    robust, natural = (load_source(name).card for name in ("bundled", "natural"))
    for field in ("network", "class_names", "data", "seed", "criterion"):
        assert getattr(natural, field) == getattr(robust, field)
    shared = natural.settings.keys() - {"compile"}  # a matter of speed
    assert {k: natural.settings[k] for k in shared} == {k: robust.settings[k] for k in shared}
    assert (robust.threat, natural.threat, natural.cost.adversarial_examples) == (Threat.parse("linf:8/255"), None, 0)
    figures = [
        [card.metrics[f"test_{kind}_accuracy"]["value"] for kind in ("clean", "robust")] for card in (robust, natural)
    ]
    assert figures == [[0.5112, 0.2208], [0.696, 0.0]]
    assert "the control, not robust" in list_sources()["natural"]


def test_a_folder_called_bundled_has_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.packaged, "_PACKAGE", tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundled").mkdir()
    with pytest.raises(CheckpointError, match=r"card\.json is missing"):
        load_source("./bundled")


def test_a_neighbour_that_may_not_be_entered_is_passed_over(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    (run_folder.parent / "closed").mkdir()
    monkeypatch.setattr(Path, "is_file", is_file)
    with pytest.raises(UnknownNameError, match=r"did you mean '.*/lwf-one'\?"):
        load_source(run_folder.parent / "lfw-one")
    with pytest.raises(UnknownNameError, match="unknown source '~nosuchuser/x'"):
        load_source("~nosuchuser/x")


def test_a_misspelt_name_lists_the_nearest(run_folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown source 'bundeld': did you mean 'bundled'"):
        load_source("bundeld")
    with pytest.raises(UnknownNameError, match=r"did you mean '.*/lwf-one'\?"):
        load_source(run_folder.parent / "lfw-one")
    known = "unknown source '/no/such/place': known: bundled, bundled-64, natural"
    with pytest.raises(UnknownNameError, match=known) as caught:
        load_source("/no/such/place")
    kinds = (
        "a source is 'bundled', 'bundled-64', 'natural', or 'auto', or robustbench:DATASET/THREAT/NAME, or timm:NAME, "
    )
    assert kinds in str(caught.value)
    assert "a run folder with model.safetensors and card.json" in str(caught.value)


class Bomb:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os._exit, (99,)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt", ".bin"])
def test_what_a_pickle_asks_for_is_named_and_not_done(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError) as caught:
        load_source(path)
    assert str(caught.value) == (
        f"{path.name}: the file holds no weights: there is no dictionary of tensors in it, only posix._exit"
    )


def test_one_file_of_a_run_folder(run_folder: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "card.json"):
        with pytest.raises(CheckpointError, match=r"is one file of a run folder: give the folder, '.*lwf-one'"):
            load_source(run_folder / name)
    other = tmp_path / "resnet.safetensors"
    other.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty: its download failed, get it again"):
        load_source(other)
