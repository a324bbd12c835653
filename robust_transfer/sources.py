"""Where sources come from: the bundled one, or a run folder. A result is a source, too."""

from __future__ import annotations

import os
from pathlib import Path

from robust_transfer.checkpoint import CARD, WEIGHTS, Checkpoint, load_checkpoint, read_card
from robust_transfer.errors import CheckpointError, ConfigError, UnknownNameError
from robust_transfer.files import expanded
from robust_transfer.registry import unknown

BUNDLED = "bundled"
RESERVED = ("timm", "torchvision", "hf", "robustbench")
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".tar", ".npz"}
_FOLDER = Path(__file__).resolve().parent / "weights" / BUNDLED
_KINDS = f"a source is {BUNDLED!r}, or a run folder with {WEIGHTS} and {CARD}"


def load_source(name: str | Path) -> Checkpoint:
    """The checkpoint called ``name``: ``bundled``, or the path of a run folder (its own name may be ``./bundled``).

    Raises :class:`UnknownNameError` with the nearest names for what is neither, :class:`ConfigError` for a kind of
    source that cannot be read, :class:`CheckpointError` for a file or folder that is no run folder, or a damaged one.
    """
    if name == BUNDLED:
        if not (_FOLDER / CARD).is_file():
            raise CheckpointError("this installation has no bundled source: give a run folder")
        return load_checkpoint(_FOLDER)
    path = expanded(name)
    if path.is_dir():
        return load_checkpoint(path)
    if path.exists():
        raise CheckpointError(_what_a_file_is(path))
    kind, colon, _ = str(name).partition(":")
    if colon and kind in RESERVED:
        raise ConfigError(f"sources of the kind {kind!r} cannot be read: {_KINDS}")
    raise UnknownNameError(f"{unknown('source', str(name), [BUNDLED, *_run_folders(path)])} ({_KINDS})")


def list_sources() -> dict[str, str]:
    """Names that :func:`load_source` takes, with a line on each."""
    listed = {BUNDLED: "not in this installation"}
    if (_FOLDER / CARD).is_file():
        card = read_card(_FOLDER / CARD)
        data, threat = card.data.get("name", "unknown data"), card.threat or "no threat"
        listed[BUNDLED] = f"{card.network.name}, {card.method} on {data} for {threat}, {card.network.input_size} pixels"
    listed["FOLDER"] = f"a run folder, with {WEIGHTS} and {CARD}"
    return listed


def _what_a_file_is(path: Path) -> str:
    if path.suffix in PICKLES:
        return f"{path} may be a pickle, which can run code, so it is never loaded: {_KINDS}"
    if path.name in (WEIGHTS, CARD):
        return f"{path} is one file of a run folder: give the folder, {str(path.parent)!r}"
    return f"{path} is a file: {_KINDS}"


def _run_folders(missing: Path) -> list[str]:
    """Run folders beside a path that does not exist: what it may be a misspelling of."""
    try:
        siblings = sorted(missing.parent.iterdir())
    except OSError:
        return []
    return [os.fspath(p) for p in siblings if _is_run_folder(p)]


def _is_run_folder(path: Path) -> bool:
    try:
        return (path / CARD).is_file() and (path / WEIGHTS).is_file()
    except OSError:  # a neighbour that may not be entered
        return False
