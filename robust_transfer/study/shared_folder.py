"""Proof that another machine sees the study's folder, its locks and its data, before it works there."""

from __future__ import annotations

import platform
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from robust_transfer.environment import version
from robust_transfer.errors import ConfigError, OutputError
from robust_transfer.files import write_text
from robust_transfer.study.recipe import Cell
from robust_transfer.study.work import Workshop

SYNC_TIMEOUT = 90.0  # seconds; network file systems cache a folder's listing for up to 60
ADVICE = "all machines have to mount one storage (NFS, Lustre ...) at the same path"


@dataclass(frozen=True)
class Token:
    """Word in a file of the folder ``root``, a lock held by its writer, its version, and required paths."""

    root: Path
    word: str
    paths: tuple[str, ...] = ()
    version: str = ""

    @property
    def file(self) -> Path:
        """File of the word; its name marks leftovers as ours."""
        return self.root / f".shared.{self.word}"

    @property
    def lock(self) -> Path:
        """Lock file."""
        return self.root / f".locked.{self.word}"


@contextmanager
def shown(root: Path, paths: Sequence[str]) -> Iterator[Token]:
    """Token for other machines to :func:`prove` inside the block."""
    token = Token(root, secrets.token_hex(6), tuple(paths), version())
    write_text(token.file, token.word)
    try:
        with FileLock(token.lock):
            yield token
    finally:
        token.file.unlink(missing_ok=True)
        token.lock.unlink(missing_ok=True)


def prove(token: Token) -> None:
    """Raise :class:`ConfigError` where the folder, its locks, a path or the version differs."""
    host = platform.node()
    try:
        same = token.file.read_text(encoding="utf-8") == token.word
    except OSError:
        same = False
    if not same:
        raise ConfigError(
            f"{host} sees another folder at {token.root} than the machine that was asked, or none: {ADVICE}"
        )
    try:
        with FileLock(token.lock, timeout=0):
            raise ConfigError(
                f"{host} does not see who locks files in {token.root}: mount it with locks (NFS: not nolock)"
            )
    except Timeout:
        pass
    for path in token.paths:
        if not Path(path).exists():
            raise ConfigError(f"{host} has nothing at {path}, which the recipe names: {ADVICE}")
    if token.version != version():
        raise ConfigError(f"{host} has robust-transfer {version()}, this machine {token.version}: install the same")


def await_cells(workshop: Workshop, cells: Sequence[Cell], patience: float = SYNC_TIMEOUT) -> None:
    """Wait until this machine sees cells made by others; :class:`OutputError` where it does not."""
    deadline = time.monotonic() + patience
    while unseen := [cell for cell in cells if not workshop.done(cell)]:
        if time.monotonic() > deadline:
            raise OutputError(
                f"{len(unseen)} cells that others made are not to be seen in {workshop.store.root}: {ADVICE}"
            )
        time.sleep(min(1.0, patience))
