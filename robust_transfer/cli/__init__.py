"""The command line: parses, calls the public API, prints. Nothing heavy is imported until a command runs."""

from robust_transfer.cli import listing, making, measuring, studies
from robust_transfer.cli.base import app, main

__all__ = ["app", "listing", "main", "making", "measuring", "studies"]
