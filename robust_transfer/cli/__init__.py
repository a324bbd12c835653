"""Command line: parses, calls the public API, prints. Nothing heavy is imported until a command runs."""

from robust_transfer.cli import (
    choose,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    export,
    import_,
    inspect,
    listing,
    predict,
    pretrain,
    push,
    report,
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
    "export",
    "import_",
    "inspect",
    "listing",
    "main",
    "predict",
    "pretrain",
    "push",
    "report",
    "study",
    "transfer",
    "verify",
]
