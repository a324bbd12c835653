"""Reports: plots and self-contained HTML pages."""

from robust_transfer.report.page import render
from robust_transfer.report.plots import png

__all__ = ["png", "render"]
