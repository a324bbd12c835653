"""Style of every plot, drawn without a display, as SVG text; and images as data URIs."""

from __future__ import annotations

import base64
import io
import warnings
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from robust_transfer.shown import printable

# Told apart by people who do not see red or green, too, and at least 3 : 1 on white. A page's style sheet has them lighter
# for dark screens. Markers and dashes say the same again.
COLOURS = ("#0072b2", "#c44e00", "#5b9387", "#5f037d", "#8e7043", "#343434")
MARKERS = "os^DvPX"  # one more than colours: 42 pairs before the first comes again


def style() -> AbstractContextManager[None]:
    """Matplotlib style of every plot: text as text, and the same bytes every time."""
    settings: dict[Any, Any] = {"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "robust-transfer"}
    settings["text.parse_math"] = False  # a dollar in a name begins no formula
    return matplotlib.rc_context(settings)


def look(index: int) -> dict[str, Any]:
    """Colour and hollow marker of series ``number``."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "mfc": "none"}


def tidy(axes: Axes) -> None:
    """Draw a light grid, and no frame at the top and on the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def svg(figure: Figure) -> str:
    """Figure as an SVG element, without the XML preamble."""
    buffer = io.StringIO()
    # names inside are drawn by the style's salt; the font that texts are measured in has not every script's signs
    with style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return printable(text[text.index("<svg") :])


def pixels(image: Tensor) -> Image.Image:
    """Float image ``(3, H, W)`` in [0, 1] as a picture of 8 bits."""
    return Image.fromarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def png(image: Tensor, *, scale: int = 1) -> str:
    """Float image ``(3, H, W)`` in [0, 1] as a data URI, enlarged without smoothing."""
    picture = pixels(image)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return data_uri(buffer.getvalue(), "png")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of an image of this ``kind`` (png, webp) as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
