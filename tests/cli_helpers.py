"""Shared helpers for tests of the command line."""

from __future__ import annotations

from collections.abc import Callable

Invoke = Callable[..., tuple[int, str, str]]  # words to exit status, standard output, standard error
DIGITS = ("--data", "builtin:digits")


def one_sentence(err: str) -> str:
    """The error text: a line or two to read, and no traceback."""
    assert "Traceback" not in err
    assert 10 < len(err.strip()) < 400, err
    return err
