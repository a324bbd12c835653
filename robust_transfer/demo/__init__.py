"""Demo: strategies for small data compared on one page; every sentence is generated from measurements."""

from robust_transfer.demo.page import run_demo

__all__ = ["run_demo"]
