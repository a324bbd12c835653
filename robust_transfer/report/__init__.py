"""Report: one self-contained page on one run or on many."""

from robust_transfer.report.gather import Entry, gather
from robust_transfer.report.page import write_beside, write_report

__all__ = ["Entry", "gather", "write_beside", "write_report"]
