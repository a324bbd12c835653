"""Reports: plots and self-contained HTML pages."""

from robust_transfer.drawing.page import render
from robust_transfer.drawing.plots import png

__all__ = ["png", "render"]
