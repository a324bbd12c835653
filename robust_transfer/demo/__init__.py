"""Demo: what one can do with a few images, side by side on one page; every sentence comes from what it measured."""

from robust_transfer.demo.page import run_demo

__all__ = ["run_demo"]
