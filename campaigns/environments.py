"""Environments of other versions, by venv and pip, outside the checkout: a Python with the oldest or newest libraries."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from record import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from lowest import PYPROJECT, lowest

OLDEST, NEWEST, INSTALLED = "oldest", "newest", "installed"
STAMP = ".installed"
TOOLS = ("pytest==", "pytest-xdist==", "hypothesis==")  # what the tests themselves need


@dataclass(frozen=True)
class Wanted:
    """Environment: a Python's command, and ``oldest``, ``newest``, a version of PyTorch, or ``installed``.

    ``oldest`` takes the lowest version of every library that pyproject.toml admits; ``installed`` is the Python's own
    environment, as it is.
    """

    python: str
    libraries: str

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """``python3.13:newest`` as a value."""
        python, colon, libraries = text.rpartition(":")
        if not colon or not python or not libraries:
            raise SystemExit(
                f"cannot read {text!r}: write PYTHON:LIBRARIES, such as python3.12:newest, python3.11:2.14.1"
            )
        return cls(python, libraries)

    def __str__(self) -> str:
        return f"{Path(self.python).name}:{self.libraries}"

    def made_in(self, folder: Path) -> Path:
        """Python of this environment below ``folder``, made there unless it is; ends with pip's own words where it cannot."""
        if self.libraries == INSTALLED:
            return Path(self.python)
        home = folder / str(self).replace(":", "-")
        wanted = requirements()
        constraints = lowest(wanted) if self.libraries == OLDEST else []
        if self.libraries not in (OLDEST, NEWEST):  # a version
            constraints = [f"torch=={self.libraries}"]
        stamp = hashlib.sha256(repr((wanted, constraints)).encode()).hexdigest()
        python = home / "bin" / "python"
        if (home / STAMP).is_file() and (home / STAMP).read_text() == stamp:
            return python
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        _call(self.python, "-m", "venv", "--without-pip", str(home))
        with tempfile.TemporaryDirectory() as lists:
            paths = [Path(lists) / name for name in ("requirements.txt", "constraints.txt")]
            for path, lines in zip(paths, (wanted, constraints), strict=True):
                path.write_text("\n".join(lines))
            pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet")
            _call(*pip, "-r", str(paths[0]), "-c", str(paths[1]))
        (home / STAMP).write_text(stamp)
        return python


def requirements() -> list[str]:
    """What the package requires, and the tools that its tests need; no extras."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    tools = [each for each in project["optional-dependencies"]["dev"] if each.startswith(TOOLS)]
    return [*project["dependencies"], *tools]


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
