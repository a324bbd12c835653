"""Run folders: recognition, write permission and lock, and the files that may be removed."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from robust_transfer.errors import OutputError
from robust_transfer.files import TEMPORARY, os_message, told_of_writes
from robust_transfer.launch import is_main_process
from robust_transfer.manifest import FILE, LOCK, RESULTS, Manifest


class _Held:
    """Folder held by this process: writes are noted, and the first one removes the previous run."""

    def __init__(self, out: Path) -> None:
        self.manifest = Manifest(out)
        self.make_room: Callable[[], None] | None = None

    def hear(self, path: Path) -> None:
        """Handle a file that is about to be written."""
        if self.manifest.covers(path):
            self.begin()
            self.manifest.note(path)

    def begin(self) -> None:
        """Remove the files to be replaced, if that has not happened yet."""
        make_room, self.make_room = self.make_room, None
        if make_room is not None:
            make_room()


_held: dict[tuple[str, int], _Held] = {}  # by folder, and the thread that holds it


def _key(out: Path) -> tuple[str, int]:
    return os.path.realpath(out), threading.get_ident()


@contextmanager
def hold(out: Path | None) -> Iterator[None]:
    """Lock ``out`` against other processes inside the block, and note all writes; may be nested.

    The folder is created, and removed again if left empty. The lock ends with its process, even if killed. Raises
    :class:`OutputError` where another process holds it.
    """
    if out is None or not is_main_process() or (out.exists() and not out.is_dir()):
        yield  # check_out reports a file in the folder's place
        return
    key = _key(out)
    if key in _held:
        yield
        return
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    lock = _locked(out)
    if lock is None:
        yield
        return
    held = _held[key] = _Held(out)
    held.manifest.sweep()
    try:
        with told_of_writes(held.hear):
            yield
    finally:
        del _held[key]
        held.manifest.tidy()
        (out / LOCK).unlink(missing_ok=True)  # while it is held: later processes create a new one
        lock.release()
        with suppress(OSError):  # not empty
            for folder in new:
                folder.rmdir()


def _locked(out: Path) -> BaseFileLock | None:
    """Lock of ``out``; None for a read-only folder, which the first write reports: a finished run may be read there."""
    while True:
        lock = FileLock(out / LOCK, timeout=0)
        try:
            out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise OutputError(f"another process is writing to {out}: wait for it, or give another --out") from None
        except OSError as error:
            if out.is_dir() and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return None
            raise OutputError(os_message(out, error)) from None
        if (out / LOCK).exists():
            return lock
        lock.release()  # its last holder removed the file between our opening and locking it


def check_out(out: Path | None, *, resume: bool, overwrite: bool) -> None:
    """Refuse an output folder that must not be written to; nothing is created or removed."""
    if out is None or not is_main_process():  # the others would find what the main process has begun to write
        return
    try:
        if out.exists() and not out.is_dir():
            raise OutputError(f"the output path {out} is a file: give a folder")
        there = [path for path in out.iterdir() if path.name != LOCK] if out.is_dir() else []
        empty = all(_is_leftover(path) for path in there) if resume else not there
        if empty:
            return
        if not (resume or overwrite):
            raise OutputError(f"the output folder {out} is not empty: give another, or --overwrite, or --resume")
        foreign = next((path for path, known in _files(out) if not known), None) if overwrite else None
        if foreign is not None or not _holds_results(out, deep=overwrite):
            why = f" (no run wrote {foreign.relative_to(out)})" if foreign is not None else ""
            option = "--resume does not write to it" if resume else "--overwrite does not empty it"
            raise OutputError(f"{out} does not look like a run folder{why}, so {option}: give another")
    except OSError as error:
        raise OutputError(os_message(out, error)) from None


def prepare_out(out: Path | None, *, resume: bool, overwrite: bool) -> Path | None:
    """Check an output folder; with ``overwrite`` its files are removed before the first write, see :func:`replacing`."""
    check_out(out, resume=resume, overwrite=overwrite)
    if out is not None and overwrite and out.is_dir():
        replacing(out, lambda: _empty(out))
    return out


def replacing(out: Path, remove: Callable[[], None]) -> None:
    """Call ``remove`` before the first write to ``out`` inside :func:`hold`: an earlier failure loses nothing.

    Outside :func:`hold` it is called at once. Processes other than the main one remove nothing.
    """
    if not is_main_process():
        return
    held = _held.get(_key(out))
    if held is None:
        remove()
    else:
        held.make_room = remove


def begin(out: Path | None) -> None:
    """Remove now what the first write to ``out`` would remove, so that no old file passes for a result."""
    if out is not None and (held := _held.get(_key(out))) is not None:
        held.begin()


def _empty(folder: Path) -> None:
    """Remove all files that the project wrote to a folder; other files stay."""
    try:
        for path, known in list(_files(folder)):
            if known and path != folder / LOCK:
                path.unlink(missing_ok=True)
        folders = [path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()]
        for path in sorted(folders, reverse=True):
            with suppress(OSError):  # not empty
                path.rmdir()
    except OSError as error:
        raise OutputError(os_message(folder, error)) from None


def _is_leftover(path: Path) -> bool:
    """True if ``path`` contains only the remains of a kill during a run's first write."""
    if path.is_dir():
        return path.name == "state" and all(_is_leftover(entry) for entry in path.iterdir())
    return path.name == FILE or TEMPORARY.fullmatch(path.name) is not None


def _holds_results(folder: Path, deep: bool) -> bool:
    """True if a folder is a run's, or (``deep``) holds a run's somewhere below."""
    paths = folder.rglob("*") if deep else [*folder.iterdir(), *folder.glob("state/*")]
    return any(path.name in RESULTS or path.name == FILE for path in paths)


def _files(folder: Path, above: Manifest | None = None) -> Iterator[tuple[Path, bool]]:
    """Files below a folder, each with whether the project wrote it; a manifest follows the other files of its folder.

    ``above``: the manifest of the enclosing run folder, which lists files here unless this folder is a run folder
    itself.
    """
    own = Manifest(folder)
    manifest = own if above is None or own.path.exists() else above
    for entry in sorted(folder.iterdir(), key=lambda path: (path.name == FILE, path)):
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry, manifest if manifest.path.exists() else None)
        else:
            yield entry, manifest.knows(entry)
