"""Records of campaigns: what was injected or tried, and what came of it; a page draws one table from all of them."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from conditions import conditions

from robust_transfer.environment import command_line

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "survival"
# The longest first: one may lie in another.
PLACES = sorted(
    {
        str(ROOT): "CHECKOUT",
        sys.prefix: "ENVIRONMENT",
        str(Path(tempfile.gettempdir()).resolve()): "TEMPORARY",
        str(Path.home()): "HOME",
    }.items(),
    key=lambda pair: -len(pair[0]),
)


@dataclass(frozen=True)
class Count:
    """Line of the table: how many of ``what`` there were. ``must_be``: the one value that is no failure, if there is one."""

    what: str
    value: int | float
    unit: str = ""
    must_be: int | None = None

    @property
    def failed(self) -> bool:
        return self.must_be is not None and self.value != self.must_be


@dataclass(frozen=True)
class Record:
    """Outcome of one campaign. ``cases``: its rows, one for each thing that was injected or tried, for whoever asks which."""

    name: str
    title: str
    counts: tuple[Count, ...]
    seed: int | None = None
    command: str = ""
    conditions: Mapping[str, str] | None = None
    cases: tuple[Mapping[str, Any], ...] = ()

    @property
    def failed(self) -> bool:
        return any(count.failed for count in self.counts)

    def write(self, folder: Path = FOLDER) -> Path:
        """Write it, with this command and the conditions of this machine, to ``folder/NAME.json``; the path."""
        facts = asdict(self) | {"command": command_line(), "conditions": conditions()}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(without_places(facts), indent=1) + "\n", encoding="utf-8")
        return path


def cases_of(name: str, folder: Path = FOLDER) -> tuple[Mapping[str, Any], ...]:
    """Cases of a record; none if there is no such record."""
    return next((each.cases for each in read(folder) if each.name == name), ())


def without_places(value: Any) -> Any:
    """``value`` of plain types with the folders of this machine named in every text: errors and commands are full of them."""
    if isinstance(value, str):
        for place, named in PLACES:
            value = value.replace(place, named)
        return value
    if isinstance(value, Mapping):
        return {key: without_places(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(each) for each in value]
    return value


def read(folder: Path = FOLDER) -> list[Record]:
    """Records of a folder, by name."""
    return [_record(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]


def _record(facts: Mapping[str, Any]) -> Record:
    counts: Sequence[Mapping[str, Any]] = facts["counts"]
    return Record(**{**facts, "counts": tuple(Count(**count) for count in counts), "cases": tuple(facts["cases"])})
