"""Where sources come from: the package (a robust one and its natural twin), or a run folder. A result is a source, too."""

from __future__ import annotations

import os
from pathlib import Path

from robust_transfer.checkpoint import CARD, WEIGHTS, Checkpoint, load_checkpoint, read_card
from robust_transfer.errors import CheckpointError, ConfigError, UnknownNameError
from robust_transfer.registry import unknown
from robust_transfer.run import expanded

BUNDLED, NATURAL = "bundled", "natural"
PACKAGED = (BUNDLED, NATURAL)
RESERVED = ("timm", "torchvision", "hf", "robustbench")
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".tar", ".npz"}
_PACKAGE = Path(__file__).resolve().parent / "weights"
_KINDS = f"a source is {BUNDLED!r}, {NATURAL!r}, or a run folder with {WEIGHTS} and {CARD}"


def load_source(name: str | Path) -> Checkpoint:
    """The checkpoint called ``name``: ``bundled``, ``natural``, or the path of a run folder (perhaps ``./natural``).

    ``natural`` is the control: the network of ``bundled``, trained on the same images without an adversarial example.
    Raises :class:`UnknownNameError` with the nearest names for what is neither, :class:`ConfigError` for a kind of
    source that cannot be read, :class:`CheckpointError` for a file or folder that is no run folder, or a damaged one.
    """
    if name in PACKAGED:
        folder = _PACKAGE / str(name)
        if not (folder / CARD).is_file():
            raise CheckpointError(f"this installation has no {name} source: give a run folder")
        return load_checkpoint(folder)
    path = expanded(name)
    if path.is_dir():
        return load_checkpoint(path)
    if path.exists():
        raise CheckpointError(_what_a_file_is(path))
    kind, colon, _ = str(name).partition(":")
    if colon and kind in RESERVED:
        raise ConfigError(f"sources of the kind {kind!r} cannot be read: {_KINDS}")
    raise UnknownNameError(f"{unknown('source', str(name), [*PACKAGED, *_run_folders(path)])} ({_KINDS})")


def list_sources() -> dict[str, str]:
    """Names that :func:`load_source` takes, with a line on each."""
    listed = {name: _summary(_PACKAGE / name) for name in PACKAGED}
    if (_PACKAGE / NATURAL / CARD).is_file():
        listed[NATURAL] += f": the control, not robust, to compare {BUNDLED} with"
    listed["FOLDER"] = f"a run folder, with {WEIGHTS} and {CARD}"
    return listed


def _summary(folder: Path) -> str:
    if not (folder / CARD).is_file():
        return "not in this installation"
    card = read_card(folder / CARD)
    data, threat = card.data.get("name", "unknown data"), card.threat or "no threat"
    return f"{card.network.name}, {card.method} on {data} for {threat}, {card.network.input_size} pixels"


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
