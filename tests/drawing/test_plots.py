"""Colours of files and of pages are the same ones, and a picture comes back as it was."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import robust_transfer.drawing
from robust_transfer.drawing import plots
from robust_transfer.drawing.figures import Point, front
from robust_transfer.drawing.plots import COLOURS, png, svg
from robust_transfer.statistics.intervals import wilson

STYLE = (Path(robust_transfer.drawing.__file__).parent / "style.css").read_text(encoding="utf-8")


def test_a_light_page_has_the_colours_of_files() -> None:
    light = STYLE.partition("@media")[0]
    assert tuple(re.findall(r"--series-\d: (#\w{6})", light)) == COLOURS


def test_a_picture_is_exact_and_enlarged_without_smoothing() -> None:
    image = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(0))
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(png(image, scale=3).partition(",")[2]))))
    assert read.shape == (6, 6, 3)
    assert (read[::3, ::3] == (image * 255).round().byte().permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize("name", [r"$\frac{1}{$", "$x$", "\x1b[2J\u202e"])
def test_a_name_is_drawn_as_it_is(name: str) -> None:
    with plots.style():
        figure = Figure()
        figure.subplots().set_title(name)
        text = plots.svg(figure)
    assert (name if name.isprintable() else "\\x1b[2J\\u202e") in text


def test_a_figure_has_the_same_bytes_every_time() -> None:
    points = {"probe": [Point("a", wilson(8, 10), wilson(4, 10)), Point("b", wilson(7, 10), wilson(5, 10))]}
    first, second = (
        svg(front(points, chosen=points["probe"][0], constant=0.1, threat="linf").figure) for _ in range(2)
    )
    assert first == second
