"""Exports: a checkpoint in formats for use without this package, each checked against it before it is written."""

from robust_transfer.exporting.exporter import Exported, export

__all__ = ["Exported", "export"]
