"""Other people's weights from the command line: inspect, import, and the road from there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_helpers import Invoke
from foreign_states import kuangliu_file, photos
from PIL import Image

from robust_transfer.data import Dataset, Task, load_task
from robust_transfer.sources import load_source


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return kuangliu_file(tmp_path / "r18.pt", monkeypatch)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of smooth colours, 24 images of each to train on."""
    x = (photos(64, 5) * 255).byte().permute(0, 2, 3, 1).numpy()
    for i, pixels in enumerate(x):
        folder = tmp_path / "photos" / ("train" if i < 48 else "test") / ("even" if i % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_inspect_says_what_it_is_and_what_spoke_for_it(invoke: Invoke, weights: Path, pictures: Path) -> None:
    status, out, err = invoke("inspect", weights)
    assert status == 0, err
    told = " ".join(out.split())
    for words in (
        "PyTorch zip",
        "names begin with 'module.'",
        "kuangliu-resnet",
        "depth 18",
        "epoch: 76",
        "undecided:",
    ):
        assert words in told, words
    status, out, err = invoke("inspect", weights, "--data", pictures, "--json")
    assert status == 0, err
    page = json.loads(out)
    assert page["card"]["network"]["settings"]["activation"] == "relu"
    assert page["card"]["network"]["preprocessing"]["normalisation"]["std"] == [1.0, 1.0, 1.0]
    evidence = page["origin"]["evidence"]
    assert evidence[0]["chosen"]
    assert len(evidence) > 8
    assert "decided by batch-norm statistics" in " ".join(invoke("inspect", weights, "--data", pictures)[1].split())


def test_from_a_file_to_a_transferred_model(invoke: Invoke, weights: Path, pictures: Path, tmp_path: Path) -> None:
    words = ("--threat", "linf:8/255", "--quiet")
    status, _, err = invoke("import", weights, "--data", pictures, "--out", tmp_path / "source", *words)
    assert status == 0, err
    probe = ("--data", pictures, "--strategy", "linear-probe", "--set", "l2=0.01")
    for source, out in ((tmp_path / "source", "a"), (weights, "b")):
        more = () if source == tmp_path / "source" else words[:2]
        status, _, err = invoke("transfer", "--source", source, *probe, "--out", tmp_path / out, "--quiet", *more)
        assert status == 0, err
    cards = [json.loads((tmp_path / out / "card.json").read_text()) for out in "ab"]
    assert cards[0]["weights_hash"] == cards[1]["weights_hash"]
    assert cards[0]["threat"] == cards[1]["threat"] == "linf:8/255"
    assert cards[0]["source"]["method"] == "import"
    status, _, err = invoke("import", weights, "--out", tmp_path / "none", "--quiet")
    assert status == 2
    assert "does not tell activation (relu or silu), normalisation" in err
    assert not (tmp_path / "none").exists()


def test_a_file_is_evaluated_with_what_it_does_not_tell(
    invoke: Invoke, weights: Path, pictures: Path, tmp_path: Path
) -> None:
    """Its classes are those that the network itself sees, so that it is right on all."""
    x = photos(60, 5)
    network = load_source(weights, images=load_task(pictures).train).classifier
    with torch.no_grad():
        seen = network(x).argmax(1).tolist()
    for i, (pixels, label) in enumerate(zip((x * 255).byte().permute(0, 2, 3, 1).numpy(), seen, strict=True)):
        folder = tmp_path / "own" / ("test" if i % 3 == 0 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    words = (
        "--threat",
        "linf:1/255",
        "--attack",
        "fgsm",
        "--red-flag-examples",
        "0",
        "--json",
        "--quiet",
        "--val",
        "0",
    )
    (tmp_path / "classes.json").write_text(json.dumps({str(label): str(label) for label in set(seen)}))
    own = ("--data", tmp_path / "own", "--class-map", tmp_path / "classes.json")
    for more in ((), ("--network", "kuangliu_resnet", "--weights", "state_dict", "--normalisation", "none")):
        status, out, err = invoke("evaluate", weights, *own, *words, *more)
        assert status == 0, err
        assert json.loads(out)["clean_accuracy"]["value"] == 1.0
    status, _, err = invoke("evaluate", weights, "--data", pictures, *words)
    assert status == 2  # decided by statistics; its classes are others
    assert "the model tells 10 classes apart and the data has 2" in err
    shutil.rmtree(tmp_path / "own" / "train")
    status, _, err = invoke("evaluate", weights, "--data", tmp_path / "own", *words)
    assert status == 2
    assert "no training images to find out by (test images decide nothing): import the weights once" in err


def test_data_that_is_evidence_is_read_once(
    invoke: Invoke, weights: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, task = list[Dataset](), Dataset.task

    def counted(data: Dataset, **given: Any) -> Task:
        read.append(data)
        return task(data, **given)

    monkeypatch.setattr(Dataset, "task", counted)
    invoke("evaluate", weights, "--data", pictures, "--quiet")  # ends with a sentence on its classes
    assert len(read) == 1
    probe = ("--strategy", "linear-probe", "--set", "l2=0.01", "--quiet", "--out", tmp_path / "out")
    status, _, err = invoke("transfer", "--source", weights, "--data", pictures, *probe)
    assert (status, len(read)) == (0, 2), err


def test_the_packaged_source_that_fits_is_said(invoke: Invoke, pictures: Path, tmp_path: Path) -> None:
    options = ("--strategy", "linear-probe", "--set", "l2=0.01", "--quiet", "--out", tmp_path / "out")
    status, _, err = invoke("transfer", "--source", "auto", "--data", pictures, *options)
    assert status == 0, err
    assert "note: the source is bundled: the images have 32 pixels a side" in err
    assert json.loads((tmp_path / "out" / "card.json").read_text())["source"]["data"] == "cifar100"
