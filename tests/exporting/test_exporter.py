"""Exports to ONNX and torch.export, run by what other people would run them with; what differs is not written."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import Invoke
from helpers import make_classifier, make_source
from images import picture
from PIL import Image
from torch import Tensor

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.errors import ConfigError, NetworkError, OutputError
from robust_transfer.exporting import export, exporter, onnx_file
from robust_transfer.exporting.deployed import Deployed


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return make_source(threat="linf:8/255")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model: Checkpoint) -> Path:
    """Both forms, with each type of input where that is cheap."""
    folder = tmp_path_factory.mktemp("exported")
    for to, kind in (("onnx", "uint8"), ("torch", "uint8"), ("torch", "float32")):
        export(model, to, folder / f"{to}-{kind}", input=kind)  # type: ignore[arg-type]
    return folder


def wanted(model: Checkpoint, pixels: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        logits = model.classifier(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    return logits, logits.softmax(1)


def close(found: Any, right: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(found, right, strict=True):
        assert np.abs(np.asarray(one) - other.numpy()).max() <= 1e-4 * float(other.abs().max())


def test_onnx_by_onnxruntime_alone(files: Path, model: Checkpoint) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(files / "onnx-uint8"))
    [given] = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("pixels", "tensor(uint8)", [8, 8, 3])
    assert [each.name for each in session.get_outputs()] == ["logits", "probabilities"]
    for n in (1, 5, 32):
        pixels = np.stack([picture(7, index) for index in range(n)])
        close(session.run(None, {"pixels": pixels}), wanted(model, pixels))
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == list(model.card.class_names)
    assert json.loads(told["provenance"])["weights"] == model.hash
    assert json.loads(told["provenance"])["threat"] == "linf:8/255"
    assert "squashed to 8 x 8 (bicubic)" in told["before"]
    check = json.loads(told["check"])
    assert (check["n"], check["same_class"]) == (16, 16)
    assert 0 < check["largest_difference_of_probabilities"] < 1e-4
    assert check["checked_by"] == f"onnxruntime {onnxruntime.__version__}"


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_torch_by_torch_alone(files: Path, model: Checkpoint, kind: str) -> None:
    told = dict.fromkeys(("class_names", "input", "check"), "")
    module = torch.export.load(io.BytesIO((files / f"torch-{kind}").read_bytes()), extra_files=told).module()
    for n in (1, 5):
        pixels = np.stack([picture(7, index) for index in range(n)])
        x = torch.from_numpy(pixels)
        close(
            [each.detach() for each in module(x if kind == "uint8" else x.permute(0, 3, 1, 2) / 255)],
            wanted(model, pixels),
        )
    assert json.loads(told["class_names"]) == list(model.card.class_names)
    assert told["input"].startswith(f"pixels: {kind} (N, ")


def test_what_computes_something_else_is_not_written(
    model: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Brighter(Deployed):
        def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
            logits, probabilities = super().forward(pixels)
            return logits * (1 + 3e-4), probabilities

    monkeypatch.setattr(exporter, "Deployed", Brighter)
    with pytest.raises(NetworkError, match="computes something else than PyTorch: on 16 images its logits differ"):
        export(model, "torch", tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_it_is_checked_with_images_of_ones_own(model: Checkpoint, tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(picture(0, index, 20)).save(tmp_path / f"{index}.png")
    made = export(model, "torch", tmp_path, images=tmp_path / "*.png")
    assert made.path == tmp_path / "model.pt2"
    assert (made.check["n"], made.check["images"]) == (3, "images of yours")


def test_nothing_is_replaced_unasked_and_what_cannot_be_is_refused(
    model: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists: give another --out, or --overwrite"):
        export(model, "onnx", tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == b"precious"
    with pytest.raises(ConfigError, match="no export to 'tflite'"):
        export(model, "tflite", tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="uint8 or float32"):
        export(model, "torch", tmp_path / "x", input="int8")  # type: ignore[arg-type]
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ConfigError, match=r"onnxscript is not installed: pip install 'robust-transfer\[export\]'"):
        export(model, "onnx", tmp_path / "x")


def test_normalisation_of_each_image_and_other_heads_are_inside(tmp_path: Path) -> None:
    made = make_classifier()
    how = dataclasses.replace(made.spec.preprocessing.normalisation, per_image=True)
    spec = dataclasses.replace(made.spec, preprocessing=dataclasses.replace(made.spec.preprocessing, normalisation=how))
    classifier = type(made)(made.body, made.head, spec).eval()
    card = dataclasses.replace(make_source().card, network=spec)
    assert export(Checkpoint(classifier, card), "torch", tmp_path / "x").check["same_class"] == 16


def test_on_the_command_line(invoke: Invoke, model: Checkpoint, tmp_path: Path) -> None:
    model.save(tmp_path / "run")
    words = (
        "export",
        tmp_path / "run",
        "--to",
        "torch",
        "--out",
        tmp_path / "model.pt2",
        "--input",
        "float32",
        "--quiet",
    )
    assert invoke(*words) == (0, "", "")
    status, _, err = invoke(*words)
    assert (status, "--overwrite" in err) == (2, True)
    status, out, _ = invoke(*words, "--overwrite", "--json")
    told = json.loads(out)
    assert (status, told["path"], told["check"]["n"]) == (0, str(tmp_path / "model.pt2"), 16)
