"""Archives of an image folder, or of a table in text or parquet and images: zip and tar, unpacked nowhere."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from robust_transfer.data.decode import open_image
from robust_transfer.data.encoded import Images
from robust_transfer.data.formats.base import FORMATS, ColumnNames, Format, StoredDataset
from robust_transfer.data.formats.class_folders import read_classes
from robust_transfer.data.formats.members import UNPACK, Archive, joined
from robust_transfer.data.formats.parquet import PARQUET, names_files
from robust_transfer.data.formats.path_tables import holds_tables, kind_of, read_tables
from robust_transfer.data.formats.split_files import find_files, holds_files
from robust_transfer.data.formats.tars import CompressedTar, TarArchive, is_compressed
from robust_transfer.data.formats.tree import NOWHERE, Tree
from robust_transfer.data.formats.zips import ZipArchive
from robust_transfer.errors import DataError

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


@FORMATS.register(
    "an archive", summary="zip, tar, tar.gz, tar.bz2 or tar.xz of an image folder, or of a table and images", paper=""
)
class ArchiveFormat(Format):
    """Archives of what an image folder, or a folder with a table of image files, may hold."""

    def recognises(self, path: Path) -> bool:
        """True for a file with one of the usual endings."""
        return path.is_file() and path.name.casefold().endswith(ENDINGS)

    def read(self, where: str, columns: ColumnNames) -> StoredDataset:
        """Data set in the archive."""
        path = Path(where)
        tree = ArchiveTree(open_archive(path))
        name = path.resolve().name
        name = name[: -len(next(end for end in sorted(ENDINGS, key=len)[::-1] if name.casefold().endswith(end)))]
        if holds_files(tree, path, PARQUET):  # the first in a folder, too
            found = find_files(tree, path, PARQUET)
            if names_files(tree, found, columns):
                return read_tables(tree, found, columns, name)
        if holds_tables(tree, path):
            return read_tables(tree, find_files(tree, path, kind_of(tree)), columns, name)
        if any(file.endswith(".parquet") for file in tree.archive.members):
            raise DataError(
                f"{path} holds parquet files with no column of paths, and those with images in them are read from folders: "
                f"{UNPACK}"
            )
        return read_classes(tree, path, columns, name)


def open_archive(path: Path) -> Archive[Any]:
    """Archive at ``path``, its kind determined by its first bytes."""
    try:
        with path.open("rb") as file:
            zipped = file.read(4) in (b"PK\3\4", b"PK\5\6")
        if zipped or path.suffix.casefold() == ".zip":
            return ZipArchive(path)
        return CompressedTar(path) if is_compressed(path) else TarArchive(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


class ArchiveTree(Tree):
    """Folders of an archive, with paths as if the archive were a folder."""

    def __init__(self, archive: Archive[Any]) -> None:
        super().__init__()
        self.archive, self.root = archive, archive.path
        self._listings: dict[str, tuple[set[str], set[str]]] = {"": (set(), set())}
        for name in archive.folders:
            self._folder(name)
        for name in (*archive.members, *archive.others):
            above, _, own = name.rpartition("/")
            self._folder(above)[1].add(own)

    def names(self, folder: Path) -> tuple[list[str], list[str]]:
        """As the archive's directory has it."""
        folders, others = self._listings[self._name(folder)]
        return sorted(folders), sorted(others)

    def no_file(self, path: Path) -> str | None:
        """Kind of broken links, and of devices and the like."""
        name = self._name(path)
        return None if name in self.archive.members else self.archive.others.get(name, NOWHERE)

    def real(self, folder: Path) -> str:
        """Folder itself: links to folders are not followed."""
        return str(folder)

    def spelt(self, name: str) -> str:
        """Name as text; bytes that are not UTF-8 are surrogates."""
        return name.encode("utf-8", "surrogateescape").decode("utf-8")

    def read(self, path: Path, most: int | None = None) -> bytes:
        """The member's bytes."""
        if (kind := self.no_file(path)) is not None:
            raise DataError(f"cannot read {path}, it is among the {kind}: pack it again")
        try:
            return self.archive.read(self._name(path))[:most]
        except (ValueError, OSError, zlib.error) as error:
            raise DataError(f"cannot read {path} ({error}): pack it again") from None

    def at(self, folder: Path, written: str) -> Path:
        """Path within the archive."""
        return self.root / joined(self._name(folder), written)

    def opened(self, paths: Sequence[Path]) -> Images:
        """Members, read from the archive one by one."""
        return MemberImages(self.archive, [self._name(path) for path in paths])

    def _folder(self, name: str) -> tuple[set[str], set[str]]:
        """Listing of a folder, which those above it list too."""
        if name not in self._listings:
            self._listings[name] = (set(), set())
            above, _, own = name.rpartition("/")
            self._folder(above)[0].add(own)
        return self._listings[name]

    def _name(self, path: Path) -> str:
        name = path.relative_to(self.root).as_posix()
        return "" if name == "." else name


class MemberImages(Images):
    """Image files in an archive."""

    def __init__(self, archive: Archive[Any], names: list[str]) -> None:
        self.archive, self.names = archive, names

    def __len__(self) -> int:
        return len(self.names)

    def open(self, position: int) -> Image.Image:
        """Read the member, still encoded."""
        return open_image(io.BytesIO(self.archive.read(self.names[position])))

    def where(self, position: int) -> str:
        """Path, as if the archive were a folder."""
        return str(self.archive.path / self.names[position])
