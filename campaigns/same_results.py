"""Results of two runs compared: every file of a folder, without times and commands."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors.torch import load

from robust_transfer.files import TEMPORARY, read_table
from robust_transfer.study.table import TIMINGS

TIMES = {"seconds", "command", "commit", *TIMINGS}
OWN = (".lock", ".written.json", "starts.jsonl", "given_up.json")  # of the run, not of its result
MADE = "## How it was made"


def contents(folder: Path) -> dict[str, Any]:
    """What each file below a folder says, by its path; unfinished state, locks and leftovers left out."""
    return {
        name: facts(folder / name) for name in names(folder) if not _passing(name) and not _of_starts(folder / name)
    }


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def leftovers(folder: Path) -> list[str]:
    """Temporary files and unfinished state."""
    return [name for name in names(folder) if TEMPORARY.fullmatch(Path(name).name) or _is_state(name)]


def held(folder: Path) -> list[str]:
    """Locks below a folder that some process holds."""
    found = []
    for name in names(folder):
        if name.endswith(".lock"):
            try:
                with FileLock(folder / name, timeout=0):
                    pass
            except Timeout:
                found.append(name)
    return found


def differences(made: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Names of the files that differ, or that only one of the two has."""
    return sorted(name for name in made.keys() | wanted.keys() if made.get(name) != wanted.get(name))


def damaged(folder: Path, *whole: dict[str, Any]) -> list[str]:
    """Files that bear a name of a result and are as in none of the ``whole`` ones, or of a state and cannot be read."""
    found = []
    for name in names(folder):
        if _is_state(name) and not TEMPORARY.fullmatch(Path(name).name):
            if not _readable(folder / name):
                found.append(name)
        elif name.endswith(".jsonl") or not (known := [each[name] for each in whole if name in each]):
            continue  # a log is longer or shorter, and its last line may be cut
        elif facts(folder / name) not in known:
            found.append(name)
    return found


def facts(path: Path) -> Any:
    """What a file says, in a form to be compared: bytes, but for times and commands."""
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            return _timeless(json.loads(content))
        if path.suffix == ".jsonl":
            return [_timeless(json.loads(line)) for line in content.splitlines()]
        if path.suffix == ".parquet":
            table = read_table(path)
            return {name: repr(table[name].tolist()) for name in table if str(name) not in TIMES}
    except (ValueError, OSError) as error:
        return f"unreadable: {error}"
    if path.suffix in (".md", ".html"):
        text = content.decode().partition(MADE)[0] if path.suffix == ".md" else content.decode()
        return re.sub(
            r"robust-transfer [^<\n`]*|[0-9a-f]{32,}|[\d.,e+-]*\d", "", text
        )  # its figures are those of other files
    return hashlib.sha256(content).hexdigest()


def _of_starts(path: Path) -> bool:
    """True for a study's page: it lists the starts that came to their end, which one that was killed did not."""
    return path.name == "report.html" and path.with_name("study.json").exists()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(each) for name, each in value.items() if name not in TIMES}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _is_state(name: str) -> bool:
    return "state" in Path(name).parts[:-1]


def _passing(name: str) -> bool:
    last = Path(name).name
    return _is_state(name) or last.endswith(OWN) or TEMPORARY.fullmatch(last) is not None


def _readable(path: Path) -> bool:
    try:
        if path.suffix == ".safetensors":
            load(path.read_bytes())
        elif path.suffix == ".parquet":
            read_table(path)
    except Exception:  # of whichever library
        return False
    return True
