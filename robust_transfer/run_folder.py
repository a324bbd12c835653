"""Run folders: which folder is one, and when it may be written to or emptied."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from robust_transfer.errors import OutputError
from robust_transfer.files import TEMPORARY, os_message
from robust_transfer.launch import is_main_process

# What makes a run folder one; --overwrite removes what is WRITTEN and no other file.
RESULTS = {"card.json", "metrics.jsonl", "evaluation.json", "outcomes.parquet", "table.json"}
RESULTS |= {"model.safetensors", "state.safetensors", "path.safetensors"}
WRITTEN = RESULTS | {"config.yaml", "README.md", "deltas.parquet", "index.html", "frontier.svg"}
WRITTEN |= {"fingerprints.safetensors"}
LOCK = ".lock"  # held by the process that writes; it is gone when nobody does
PART = re.compile(r"deltas-\d{9}\.parquet")  # of an evaluation that is not finished


_held: set[tuple[str, int]] = set()  # folders that this process holds, each with the thread that does


@contextmanager
def hold(out: Path | None) -> Iterator[None]:
    """Hold ``out`` against other processes inside the block; the folder is made for it, and removed again if left empty.

    The lock ends with its process, however that dies. Raises :class:`OutputError` where another process holds it.
    """
    if out is None or not is_main_process() or (out.exists() and not out.is_dir()):
        yield  # what is wrong with a file in the folder's place is said by check_out
        return
    key = os.path.realpath(out), threading.get_ident()
    if key in _held:
        yield
        return
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    lock = _locked(out)
    if lock is None:
        yield
        return
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        (out / LOCK).unlink(missing_ok=True)  # while it is held: who comes now makes a new one
        lock.release()
        with suppress(OSError):  # not empty
            for folder in new:
                folder.rmdir()


def _locked(out: Path) -> BaseFileLock | None:
    """Lock of ``out``; None where nothing can be written, which the first write says: a finished run may be read there."""
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
    except OSError as error:
        raise OutputError(os_message(out, error)) from None
    if empty:
        return
    if not (resume or overwrite):
        raise OutputError(f"the output folder {out} is not empty: give another, or --overwrite, or --resume")
    foreign = _foreign(out) if overwrite else None
    if foreign is not None or not _holds_results(out, deep=overwrite):
        why = f" (no run wrote {foreign.relative_to(out)})" if foreign is not None else ""
        option = "--resume does not write to it" if resume else "--overwrite does not empty it"
        raise OutputError(f"{out} does not look like a run folder{why}, so {option}: give another")


def prepare_out(out: Path | None, *, resume: bool, overwrite: bool) -> Path | None:
    """Check an output folder and, with ``overwrite``, empty it; it is created by the first write."""
    check_out(out, resume=resume, overwrite=overwrite)
    if out is not None and overwrite and out.is_dir() and is_main_process():
        try:
            for entry in out.iterdir():
                if entry.name == LOCK:
                    continue
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        except OSError as error:
            raise OutputError(os_message(out, error)) from None
    return out


def _is_leftover(path: Path) -> bool:
    """True if ``path`` is only what a kill during a run's first write left behind."""
    if path.is_dir():
        return path.name == "state" and all(_is_leftover(entry) for entry in path.iterdir())
    return TEMPORARY.fullmatch(path.name) is not None


def _holds_results(folder: Path, deep: bool) -> bool:
    """True if a folder is a run's, or (``deep``) holds a run's somewhere below."""
    paths = folder.rglob("*") if deep else [*folder.iterdir(), *folder.glob("state/*")]
    return any(path.name in RESULTS for path in paths)


def _foreign(folder: Path) -> Path | None:
    """First entry of a folder (or of a run folder in it) that no run writes, or None."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            if (found := _foreign(entry)) is not None:
                return found
        elif (
            entry.name not in WRITTEN | {LOCK}
            and not PART.fullmatch(entry.name)
            and not TEMPORARY.fullmatch(entry.name)
        ):
            return entry
    return None
