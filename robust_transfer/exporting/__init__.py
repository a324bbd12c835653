"""Exports: a checkpoint in forms that are used without this package, each checked against it before it is written."""

from robust_transfer.exporting.exporter import Exported, export

__all__ = ["Exported", "export"]
