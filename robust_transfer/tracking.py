"""Experiment trackers: TensorBoard, W&B, MLflow and Trackio receive the records of ``metrics.jsonl``, through accelerate.

A tracker never ends a run: a failing one is reported once and dropped.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robust_transfer.config import as_dict
from robust_transfer.errors import ConfigError
from robust_transfer.files import announce, write_json
from robust_transfer.launch import is_main_process
from robust_transfer.messages import show
from robust_transfer.registry import unknown
from robust_transfer.texts import read_json

TRACKERS = (
    "tensorboard",
    "wandb",
    "mlflow",
    "trackio",
)  # names of accelerate's trackers, packages and our extras alike
PROJECT = "robust-transfer"
RECORD = "trackers.json"  # in a run folder: each tracker's own name for the run, for resuming
MAX_TEXT = 250  # characters of a text in the configuration: MLflow refuses much longer ones


def parse(names: str | Sequence[str]) -> tuple[str, ...]:
    """Trackers by their names, or by a text with commas between them, each once.

    Raises :class:`ConfigError` for an unknown name, and for one whose package is not installed.
    """
    words = names.split(",") if isinstance(names, str) else [part for name in names for part in str(name).split(",")]
    wanted = tuple(dict.fromkeys(word.strip() for word in words))
    for name in wanted:
        if name not in TRACKERS:
            raise ConfigError(unknown("tracker", name, list(TRACKERS)))
        if not _installed(name):
            raise ConfigError(f"{name} is an extra: pip install 'robust-transfer[{name}]'")
    return wanted


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a module that was made by hand
        return name in sys.modules


def check(names: Sequence[str], out: Path | None) -> None:
    """Raise :class:`ConfigError` for TensorBoard without a folder: its files lie in the run folder."""
    if "tensorboard" in names and out is None:
        raise ConfigError("tensorboard writes to the run folder: give an output folder, too")


@contextmanager
def tracked(
    names: Sequence[str], out: Path | None, *, title: str, configuration: Mapping[str, Any], resume: bool
) -> Iterator[None]:
    """Connect :func:`log` and :func:`conclude` to the trackers inside the block; in the main process only.

    With ``resume`` the trackers' runs noted in ``out`` are continued.
    """
    if not names or not is_main_process():
        yield
        return
    check(names, out)
    place = _PLACE.get() or Place(title, out / "tensorboard" if out is not None else None, out)
    session = _Session(names, place, configuration, resume)
    token = _SESSION.set(session)
    try:
        yield
    finally:
        _SESSION.reset(token)
        session.finish()


@dataclass(frozen=True)
class Place:
    """Run of a tracker as people find it: its ``title``, the ``board`` folder of TensorBoard's files, and the folder of its
    ``record``, by which it is gone on with.
    """

    title: str
    board: Path | None
    record: Path | None


@contextmanager
def at(place: Place) -> Iterator[None]:
    """Track what is run inside the block at ``place``, for one of several runs of a larger work; else its folder says where."""
    token = _PLACE.set(place)
    try:
        yield
    finally:
        _PLACE.reset(token)


@contextmanager
def within(prefix: str) -> Iterator[None]:
    """Prefix the names of figures with ``prefix/`` inside the block: for one of several trainings of a run."""
    token = _PREFIX.set(f"{_PREFIX.get()}{prefix}/")
    try:
        yield
    finally:
        _PREFIX.reset(token)


def is_on() -> bool:
    """True inside :func:`tracked` with at least one tracker."""
    return _SESSION.get() is not None


def log(record: Mapping[str, Any]) -> None:
    """Send the numbers of a record of ``metrics.jsonl`` to the trackers, at its ``step``."""
    if (session := _SESSION.get()) is not None:
        prefix = _PREFIX.get()
        figures = {prefix + k: v for k, v in _numbers(record).items() if k != "step"}
        session.tell(figures, int(record["step"]), alone=not prefix)


def conclude(metrics: Mapping[str, Any], name: str = "final") -> None:
    """Send a run's final numbers to the trackers, as ``name/...``, at its last step."""
    if (session := _SESSION.get()) is not None:
        figures = {f"{_PREFIX.get()}{name}/{k}": v for k, v in _numbers(_flat(metrics)).items()}
        session.tell(figures, session.step, alone=False)


class _Session:
    """Trackers of one run. Each starts with the first figures: a run that fails earlier leaves no empty one behind."""

    def __init__(self, names: Sequence[str], place: Place, configuration: Mapping[str, Any], resume: bool) -> None:
        self.place = place
        self.step: int | None = None  # of the last figures; an evaluation has none
        self.configuration = {k: _plain(v) for k, v in _flat(as_dict(configuration)).items()}
        self.ids = _noted(place.record) if resume and place.record is not None else {}
        self.trackers: dict[str, Any] = dict.fromkeys(names)  # None: not started yet

    def tell(self, figures: dict[str, float], step: int | None, *, alone: bool) -> None:
        """Log to all working trackers. ``alone``: from the run's only training, so that later steps are not known yet."""
        self.step = step
        for name in list(self.trackers) if figures else []:
            with self._forgiven(name):
                if self.trackers[name] is None:
                    self.trackers[name] = self._started(name, step if alone else None)
                # W&B drops steps that go back, as they do after a divergence: there the step is one of the figures
                if name == "wandb" and step is not None:
                    self.trackers[name].log({"step": step, **figures})
                else:
                    self.trackers[name].log(figures, step=step)

    def finish(self) -> None:
        """Close all started trackers."""
        for name in [name for name, tracker in self.trackers.items() if tracker is not None]:
            with self._forgiven(name):
                self.trackers[name].finish()
        self._announce()

    def _started(self, name: str, step: int | None) -> Any:
        """New or resumed tracker; ``step``: TensorBoard's records from there on are written again."""
        known = self.ids.get(name) or None
        self._note(name, known or _new_id(name, self.place.title))  # before any file of a tracker: it empties a folder
        tracker = _built(name, self.ids[name], self.place, step if known else None)
        tracker.main_process_only = False  # it is the main one; accelerate would make a global state to find out
        tracker.start()
        if name == "wandb":
            tracker.tracker.define_metric("*", step_metric="step")
        if name == "mlflow":
            self._note(name, tracker.tracker.info.run_id)
        if known is None:
            tracker.store_init_configuration(self.configuration)
        self._announce()
        return tracker

    def _note(self, name: str, its: str) -> None:
        changed = self.ids.get(name) != its
        self.ids[name] = its
        if self.place.record is not None and changed:
            write_json(self.place.record / RECORD, self.ids)

    def _announce(self) -> None:
        """Tell of TensorBoard's files, which its library writes: --overwrite removes what is known only."""
        for path in self.place.board.rglob("*") if self.place.board is not None else ():
            if path.is_file():
                announce(path)

    @contextmanager
    def _forgiven(self, name: str) -> Iterator[None]:
        """Drop a tracker that fails, with one warning."""
        try:
            with _without_state(), redirect_stdout(sys.stderr):  # standard output is for results
                yield
        except Exception as error:  # whatever a library of others raises
            del self.trackers[name]
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            show(f"note: {name} stopped tracking ({reason}): the run goes on without it", error=True)


_SESSION: ContextVar[_Session | None] = ContextVar("session", default=None)
_PLACE: ContextVar[Place | None] = ContextVar("place", default=None)
_PREFIX: ContextVar[str] = ContextVar("prefix", default="")


def _built(name: str, its: str, place: Place, step: int | None) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    title, board = place.title, place.board or Path()  # TensorBoard has a folder: see check
    settings: dict[str, dict[str, Any]] = {
        "tensorboard": {"run_name": board.name, "logging_dir": board.parent, "purge_step": step},
        "wandb": {
            "run_name": os.environ.get("WANDB_PROJECT", PROJECT), "id": its, "name": title, "resume": "allow",
        },
        "mlflow": {"experiment_name": PROJECT, "run_name": title, "run_id": its or None},
        "trackio": {"run_name": PROJECT, "name": its, "resume": "allow"},
    }  # fmt: skip
    return LOGGER_TYPE_TO_CLASS[name](**settings[name])


def _new_id(name: str, title: str) -> str:
    """Name of a new run for the tracker; MLflow makes its own."""
    token = secrets.token_hex(4)
    return {"tensorboard": "tensorboard", "wandb": token, "mlflow": "", "trackio": f"{title}-{token}"}[name]


@contextmanager
def _without_state() -> Iterator[None]:
    """Plain logger for accelerate's trackers: theirs needs a global state, which ties later trainings to a device."""
    from accelerate import tracking

    theirs, tracking.logger = tracking.logger, logging.getLogger(tracking.__name__)
    try:
        yield
    finally:
        tracking.logger = theirs


def _noted(out: Path) -> dict[str, str]:
    try:
        return dict(read_json(out / RECORD))
    except (OSError, ValueError, TypeError):
        return {}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _plain(value: Any) -> bool | float | int | str:
    """Configuration value in a form that every tracker takes."""
    return value if isinstance(value, bool | int | float) else str(value)[:MAX_TEXT]


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        k: v for k, v in record.items() if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
    }
