"""Archives that the tests pack, member by member: also such as no program would."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

ARCHIVES = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")


def contents(folder: Path) -> dict[str, bytes]:
    """The files under a folder by their paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def pack(path: Path, files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> Path:
    """Archive of the kind that its name says, of files and symbolic links."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            for name, target in links.items():
                link = zipfile.ZipInfo(name)
                link.external_attr = 0o120777 << 16
                archive.writestr(link, target)
        return path
    mode = path.suffix.removeprefix(".").removesuffix("tar").replace("tgz", "gz")
    with tarfile.open(path, f"w:{mode}") as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            add(tar, name, content)
        for name, target in links.items():
            add(tar, name, b"", type=tarfile.SYMTYPE, linkname=target)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes, **fields: object) -> None:
    """One member."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))
