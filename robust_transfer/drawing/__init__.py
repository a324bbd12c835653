"""Reports: plots and self-contained HTML pages."""

from robust_transfer.drawing.figures import Drawing, Point
from robust_transfer.drawing.inline import inline
from robust_transfer.drawing.page import render
from robust_transfer.drawing.plots import png

__all__ = ["Drawing", "Point", "inline", "png", "render"]
