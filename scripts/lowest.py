"""Print the lowest versions that pyproject.toml admits, of what is required and of every extra, as constraints for pip.

python scripts/lowest.py > lowest.txt && pip install -c lowest.txt -e '.[dev]'
"""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest(requirements: list[str]) -> list[str]:
    """``name==version`` for every ``name>=version``; other requirements are left to pip."""
    bounds = (re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement) for requirement in requirements)
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


def requirements() -> list[str]:
    """Of the project and of all its extras, each once."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    return sorted({*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())})


def main() -> None:
    print("\n".join(lowest(requirements())))


if __name__ == "__main__":
    main()
