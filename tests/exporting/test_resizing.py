"""Resizing inside of an export is Pillow's, to the pixel, for images of any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_helpers import Invoke
from helpers import make_source
from images import picture
from PIL import Image
from sklearn.datasets import load_sample_images

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data.resizing import resized
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.exporting import checking, export, resizing
from robust_transfer.exporting.resizing import KERNELS, Resizing
from robust_transfer.preprocessing import Geometry

SIZES = [
    (50, 50),
    (51, 50),
    (97, 50),
    (33, 80),
    (33, 49),
    (20, 31),
    (31, 20),
    (32, 32),
    (7, 90),
    (90, 7),
    (1, 3),
    (1, 1),
]
HOW = [
    *(Geometry(size=32, interpolation=kernel) for kernel in KERNELS),  # type: ignore[arg-type]
    Geometry(size=32, resize="crop", short=37, interpolation="bilinear"),
    Geometry(size=37, resize="crop", short=30),  # black around it
    Geometry(size=31, short=40),
]


def images() -> list[Image.Image]:
    square = Image.fromarray(picture(0, 1, 32))
    parts = [Image.fromarray(photo) for photo in load_sample_images().images]
    return [*(square.resize(size, Image.Resampling.LANCZOS) for size in SIZES), *parts, parts[0].crop((0, 0, 100, 427))]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_it_is_pillows_to_the_pixel(how: Geometry) -> None:
    """A second image of the same size beside each, which must not change it."""
    module = Resizing(how)
    for image in images():
        pixels = torch.from_numpy(np.array(image))
        found = module(torch.stack([pixels, 255 - pixels]))
        np.testing.assert_array_equal(found[0].numpy(), resized(image, how), err_msg=f"{image.size}")


def test_onnxruntime_reads_images_of_any_size(invoke: Invoke, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = make_source()
    model.save(tmp_path / "run")
    words = ("--to", "onnx", "--out", tmp_path / "model.onnx", "--resize-inside", "--json", "--quiet")
    status, out, err = invoke("export", tmp_path / "run", *words)
    assert status == 0, err
    made = json.loads(out)
    assert made["contract"] == "pixels: uint8 (N, H, W, 3), RGB, any N, H and W: images of one size"
    session = onnxruntime.InferenceSession(made["path"])
    assert session.get_modelmeta().custom_metadata_map["before"] == made["before"]
    assert made["before"].startswith("decode to RGB; the whole image squashed to 8 x 8 (bicubic), scaling and")
    wanted = checking.logits_of(model, checking.as_pixels(images(), model))
    for image, right in zip(images(), wanted, strict=True):
        twice = np.stack([np.asarray(image)] * 2)
        for row in session.run(["logits"], {"pixels": twice})[0]:
            assert np.abs(row - right.numpy()).max() <= 1e-5


def test_another_order_than_pillows_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "TALL_FIRST", not resizing.TALL_FIRST)
    with pytest.raises(NetworkError, match="computes something else than PyTorch"):
        export(make_source(), "torch", tmp_path / "model.pt2", resize_inside=True)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_inside_is_refused(tmp_path: Path) -> None:
    model: Checkpoint = make_source()
    with pytest.raises(ConfigError, match="needs the input uint8"):
        export(model, "torch", tmp_path / "x", resize_inside=True, input="float32")
    with pytest.raises(ConfigError, match="timm resizes by itself"):
        export(model, "timm", tmp_path / "x", resize_inside=True)
    with pytest.raises(ConfigError, match="resizing by 'nearest' cannot be inside"):
        Resizing(Geometry(size=8, interpolation="nearest"))
