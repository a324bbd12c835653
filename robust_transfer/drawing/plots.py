"""Plots as SVG text, drawn without a display, and images as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

COLOURS = ("#0b6e99", "#c8553d", "#4f7942", "#7d5ba6", "#b8860b", "#555555")
MARKERS = "os^DvPX"  # one more than colours: 42 pairs before the first comes again


@dataclass(frozen=True)
class Point:
    """One result in the plane of clean against robust accuracy; each is ``(value, low, high)`` in [0, 1]."""

    name: str
    clean: tuple[float, float, float]
    robust: tuple[float, float, float]


def style() -> AbstractContextManager[None]:
    """Style of every plot: text as text, and the same bytes every time."""
    settings: dict[Any, Any] = {"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "robust-transfer"}
    return matplotlib.rc_context(settings)


def tidy(axes: Axes) -> None:
    """Light grid, and no frame at the top and on the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def front(series: Mapping[str, Sequence[Point]], *, chosen: Point, constant: float, threat: str) -> str:
    """Robust over clean accuracy, a line a series, the chosen point ringed; SVG."""
    with style():
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        axes.axhline(100 * constant, color="#888888", lw=1, ls="--", label="constant classifier")
        for index, (name, points) in enumerate(series.items()):
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            clean, robust = (100 * np.array([getattr(p, level) for p in points]) for level in ("clean", "robust"))
            axes.plot(clean[:, 0], robust[:, 0], color=colour, lw=1.2, marker=marker, mfc="none", label=name)
            axes.vlines(clean[:, 0], robust[:, 1], robust[:, 2], color=colour, lw=0.8, alpha=0.6)
        x, y = 100 * chosen.clean[0], 100 * chosen.robust[0]
        axes.plot(x, y, "o", ms=16, mfc="none", mec="#222222", mew=1.4, label=f"chosen: {chosen.name}")
        axes.set_xlabel("clean accuracy, %")
        axes.set_ylabel(f"robust accuracy, % ({threat})")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        tidy(axes)
        return svg(figure)


def svg(figure: Figure) -> str:
    """Figure as an SVG element, without the XML preamble."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(image: Tensor, *, scale: int = 1) -> str:
    """Float image ``(3, H, W)`` in [0, 1] as a data URI, enlarged without smoothing."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
