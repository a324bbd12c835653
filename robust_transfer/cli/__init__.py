"""Command line: parses, calls the public API, prints. Nothing heavy is imported until a command runs."""

from robust_transfer.cli import (
    choose,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    import_,
    inspect,
    listing,
    pretrain,
    study,
    transfer,
    verify,
)
from robust_transfer.cli.base import app, main

__all__ = [
    "app",
    "choose",
    "compare",
    "data",
    "demo",
    "doctor",
    "evaluate",
    "import_",
    "inspect",
    "listing",
    "main",
    "pretrain",
    "study",
    "transfer",
    "verify",
]
