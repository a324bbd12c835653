"""Run folders as plain data: cards, evaluations and logs, each evaluation with the card of its network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_transfer.checkpoint import CARD, WEIGHTS, Card, read_card, stored_hash
from robust_transfer.choosing import Choice, load_choice
from robust_transfer.choosing.choice import CHOICE
from robust_transfer.choosing.chooser import TRIED
from robust_transfer.errors import DataError, RobustTransferError
from robust_transfer.evaluation import Evaluation, load_evaluation
from robust_transfer.evaluation.outcomes import EVALUATION, OUTCOMES
from robust_transfer.files import expanded, read_table
from robust_transfer.manifest import LOCK
from robust_transfer.shown import one_line
from robust_transfer.study.study import STUDY
from robust_transfer.texts import from_json, read_json

LOG, FAILED, STATE = "metrics.jsonl", "failed.json", "state"
SIGNS = (CARD, WEIGHTS, EVALUATION, OUTCOMES, LOG, FAILED, STATE)
INNER = (STATE, TRIED, "front", "shared")  # folders inside a run or a study that hold no run of their own


@dataclass(frozen=True)
class Found:
    """Contents of one folder; ``problems`` describes in sentences how it differs from a finished run's."""

    folder: Path
    card: Card | None = None
    evaluation: Evaluation | None = None
    log: tuple[dict[str, Any], ...] = ()
    choice: Choice | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """Unit of the report: one network, one evaluation of it, or both.

    ``network`` and ``evaluated`` are the contents of their folders; either may be None. ``name`` is unique; ``short``
    is the network's if there is one.
    """

    name: str
    short: str
    network: Found | None
    evaluated: Found | None

    @property
    def card(self) -> Card | None:
        """Network's card, if its folder is given."""
        return self.network.card if self.network is not None else None

    @property
    def evaluation(self) -> Evaluation | None:
        """Evaluation, if there is one."""
        return self.evaluated.evaluation if self.evaluated is not None else None

    @property
    def folders(self) -> tuple[Found, ...]:
        """Contents of its folders, each once."""
        given = [found for found in (self.network, self.evaluated) if found is not None]
        return tuple({found.folder: found for found in given}.values())

    @property
    def problems(self) -> tuple[str, ...]:
        """Problems of its folders."""
        return tuple(problem for found in self.folders for problem in found.problems)


def gather(paths: Sequence[str | Path]) -> list[Entry]:
    """Entries of all run folders that are given or lie below those given, in that order, those of studies left out.

    Raises :class:`DataError` for a path without any.
    """
    return split(paths)[0]


def split(paths: Sequence[str | Path]) -> tuple[list[Entry], list[Path]]:
    """Entries of all run folders, and the folders of studies, that are given or lie below those given, in that order.

    What a study has made is its own. Raises :class:`DataError` for a path without any run or study.
    """
    folders, studies = dict[Path, Path](), dict[Path, Path]()
    for path in map(expanded, paths):
        found = list(_found(path)) if path.is_dir() else []
        if not found:
            what = "holds no run" if path.is_dir() else "is no folder"
            raise DataError(f"{path} {what}: give what transfer, pretrain, import, evaluate or study wrote (its --out)")
        for folder in found:
            known = studies if (folder / STUDY).is_file() else folders
            known.setdefault(folder.resolve(), folder)
    if not folders and not studies:
        raise DataError("there is nothing to report on: give at least one run folder")
    return joined([read(folder) for folder in folders.values()]), list(studies.values())


def _found(path: Path) -> Iterator[Path]:
    """``path`` and folders below it that are studies, or runs of no study."""
    study = (path / STUDY).is_file()
    if study or any((path / name).exists() for name in SIGNS):
        yield path
    for inner in sorted(path.iterdir()) if not study else ():
        if inner.is_dir() and not inner.is_symlink() and inner.name not in INNER and not inner.name.startswith("."):
            yield from _found(inner)


def read(folder: Path) -> Found:
    """Contents of a run folder, and its problems."""
    card, evaluation, problems = None, None, list[str]()
    if (folder / CARD).is_file():
        try:
            card = read_card(folder / CARD)
        except RobustTransferError as error:
            problems.append(f"The card cannot be read: {error}.")
        if not (folder / WEIGHTS).is_file():
            problems.append("The weights are missing beside the card: the run was cut short, or they were removed.")
    if (folder / EVALUATION).is_file():
        try:
            evaluation = load_evaluation(folder)
        except DataError as error:
            problems.append(f"The evaluation cannot be read: {error}.")
    choice = None
    if (folder / CHOICE).is_file():
        try:
            choice = load_choice(folder)
        except RobustTransferError as error:
            problems.append(f"The record of its choice cannot be read: {error}.")
    log, lost = _log(folder / LOG)
    if lost:
        problems.append(f"{lost} line{'s' * (lost != 1)} of the log cannot be read: a kill may have cut them short.")
    events = [f"Its log says: {record['event']}." for record in log if card is None and "event" in record]
    return Found(folder, card, evaluation, log, choice, (*problems, *_unfinished(folder, card, evaluation), *events))


def _unfinished(folder: Path, card: Card | None, evaluation: Evaluation | None) -> Iterator[str]:
    """Signs of unfinished work."""
    if (folder / FAILED).is_file():
        yield f"There is no result: {_reason(folder / FAILED)}."
    partial = folder / STATE / OUTCOMES
    if partial.is_file() and evaluation is None:
        yield (
            f"An evaluation was interrupted{_reached(partial)}. It has no figures yet: the same evaluate command with "
            "--resume goes on with it."
        )
    elif card is None and evaluation is None and not (folder / FAILED).is_file():
        yield (
            "There is no result: the run was interrupted, or diverged, or is still at work. The same command with --resume "
            "goes on with one that was interrupted."
        )
    if (folder / LOCK).exists():
        yield "The folder is locked: a process is writing to it, or was killed while it did."


def _reason(path: Path) -> str:
    try:
        return str(read_json(path)["reason"]).rstrip(".")
    except (OSError, ValueError, KeyError, TypeError):
        return "the record of why cannot be read"


def _reached(path: Path) -> str:
    try:
        faced = read_table(path)["faced"]
        return f" when {int((faced > 0).sum())} of {len(faced)} images had been attacked"
    except Exception:  # a file that a kill has cut short: whatever its reader raises
        return ""


def _log(path: Path) -> tuple[tuple[dict[str, Any], ...], int]:
    """Records of a log, and the number of invalid lines."""
    if not path.is_file():
        return (), 0
    found, lost = list[dict[str, Any]](), 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = from_json(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            found.append(record)
        else:
            lost += 1
    return tuple(found), lost


def joined(found: list[Found]) -> list[Entry]:
    """Entry for each evaluation, and for each network that none of them is of."""
    names = short_names([each.folder for each in found])
    networks = [each for each in found if each.card is not None]
    hashes = {each.folder: stored_hash(each.folder) for each in networks} if len(found) > 1 else {}
    entries, taken = dict[Path, Entry](), set[Path]()
    for each in found:
        if each.evaluation is None:
            continue
        own = each if each.card is not None else None
        alike = (other for other in networks if hashes.get(other.folder) == each.evaluation.model_hash)
        network, name = own or next(alike, None), names[each.folder]
        if network is not None:
            taken.add(network.folder)
            name = name if network is each else f"{names[network.folder]}, evaluated in {name}"
        entries[each.folder] = Entry(name, names[(network or each).folder], network, each)
    for each in found:
        if each.folder not in entries and each.folder not in taken:
            entries[each.folder] = Entry(names[each.folder], names[each.folder], each, None)
    return [entries[each.folder] for each in found if each.folder in entries]


def short_names(folders: Iterable[Path]) -> dict[Path, str]:
    """Shortest unique endings of paths, so that pages do not show home folders."""
    parts = {folder: folder.resolve().parts for folder in folders}
    found = dict[Path, str]()
    for folder, mine in parts.items():
        length = 1
        while length < len(mine) and sum(other[-length:] == mine[-length:] for other in parts.values()) > 1:
            length += 1
        found[folder] = one_line("/".join(mine[-length:]))
    return found
