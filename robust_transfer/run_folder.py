"""Run folders: which folder is one, and when it may be written to or emptied."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from robust_transfer.errors import OutputError
from robust_transfer.files import TEMPORARY, os_message
from robust_transfer.launch import is_main_process

# What makes a run folder one; --overwrite removes what is WRITTEN and no other file.
RESULTS = {"card.json", "metrics.jsonl", "evaluation.json", "outcomes.parquet", "table.json"}
RESULTS |= {"model.safetensors", "state.safetensors", "path.safetensors"}
WRITTEN = RESULTS | {"config.yaml", "README.md", "deltas.parquet", "index.html", "frontier.svg"}
PART = re.compile(r"deltas-\d{9}\.parquet")  # of an evaluation that is not finished


def check_out(out: Path | None, *, resume: bool, overwrite: bool) -> None:
    """Refuse an output folder that must not be written to; nothing is created or removed."""
    if out is None or not is_main_process():  # the others would find what the main process has begun to write
        return
    try:
        if out.exists() and not out.is_dir():
            raise OutputError(f"the output path {out} is a file: give a folder")
        there = list(out.iterdir()) if out.is_dir() else []
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
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        except OSError as error:
            raise OutputError(os_message(out, error)) from None
    return out


def _is_leftover(path: Path) -> bool:
    """Whether it is only what a kill in the middle of a run's first write has left behind."""
    if path.is_dir():
        return path.name == "state" and all(_is_leftover(entry) for entry in path.iterdir())
    return TEMPORARY.fullmatch(path.name) is not None


def _holds_results(folder: Path, deep: bool) -> bool:
    """Whether a folder is a run's, or (``deep``) holds a run's somewhere below."""
    paths = folder.rglob("*") if deep else [*folder.iterdir(), *folder.glob("state/*")]
    return any(path.name in RESULTS for path in paths)


def _foreign(folder: Path) -> Path | None:
    """The first entry of a folder (or of a run folder in it) that no run writes, or None."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            if (found := _foreign(entry)) is not None:
                return found
        elif entry.name not in WRITTEN and not PART.fullmatch(entry.name) and not TEMPORARY.fullmatch(entry.name):
            return entry
    return None
