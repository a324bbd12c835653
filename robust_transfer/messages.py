"""Messages beside results: standard logging under the logger ``robust_transfer``.

A program that uses the package configures the handlers; without any, nothing is shown. The command line shows
messages and warnings on standard error.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from robust_transfer.shown import printable

ROOT = "robust_transfer"
TOLD = f"{ROOT}.told"  # messages for the user of a command
HIDDEN = "hidden"  # attribute of a record: not shown with --quiet

logging.getLogger(ROOT).addHandler(logging.NullHandler())


def show(what: object, *, error: bool = False) -> None:
    """Print ``what``, made :func:`printable`, on standard output or standard error."""
    print(printable(str(what)), file=sys.stderr if error else sys.stdout, flush=True)


def logger(name: str) -> logging.Logger:
    """Logger of a module of the package, or of an extension."""
    return logging.getLogger(name)


@contextmanager
def errors_only(library: str) -> Iterator[None]:
    """Silence a library's logger below errors."""
    log = logging.getLogger(library)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


class _OnStandardError(logging.Handler):
    """Handler for the current standard error, which a bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, HIDDEN, False) and (record.levelno >= logging.WARNING or record.name == TOLD):
            show(record.getMessage(), error=True)


@contextmanager
def on_standard_error() -> Iterator[None]:
    """Show messages as the command line does; the logger is restored afterwards."""
    root, handler = logging.getLogger(ROOT), _OnStandardError()
    level = root.level
    root.addHandler(handler)
    if not root.isEnabledFor(logging.INFO):
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
