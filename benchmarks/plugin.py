"""File as an installed package: child processes find its registrations by the entry point."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def installed(file: Path, group: str, folder: Path) -> str:
    """Put ``file`` into ``folder`` as a package with an entry point of ``group``; the PYTHONPATH that has it first."""
    name = file.stem
    info = folder / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    shutil.copy(file, folder)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}\n", encoding="utf-8")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
