"""Files with whole splits, such as ``train-00000-of-00002.parquet``, and their assignment to splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from robust_transfer.data.formats.base import WRITTEN, Role, listed
from robust_transfer.data.formats.split_names import FileName, file_name, role_of, speaks_of_a_split
from robust_transfer.data.formats.tree import Tree
from robust_transfer.errors import DataError


@dataclass(frozen=True)
class Files:
    """Files of each split, and notes on others.

    ``named``: their names contain the splits; else ``as_train`` means that they are assumed to be train. ``alone``: a
    single file was passed. ``within``: the folder that contains them and ``seen``, all files of their kind.
    """

    of: dict[Role, list[Path]]
    within: Path
    notes: tuple[str, ...] = ()
    as_train: tuple[str, ...] = ()
    named: bool = True
    alone: bool = False
    seen: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Kind:
    """Kind of file: what messages call it, which files are of it, and the part of a name that says the split.

    ``endings``: what their names end with, in lower case. Nothing else is looked at.
    """

    called: str
    takes: Callable[[Path], bool]
    stem: Callable[[Path], str]
    endings: tuple[str, ...]


def find_files(tree: Tree, root: Path, kind: Kind) -> Files:
    """Files of each split in ``root``, in ``root/data``, or in folders there with a split's name.

    Another folder in ``root`` is read if it is the only one with such files. Files without a split in their names are
    train if no file has one, and are left out with a note otherwise. Raises :class:`DataError` for files of several
    data sets side by side, for a duplicate file of a split, and for a file whose name contradicts its folder's.
    """
    for base in _bases(tree, root):
        files = _candidates(tree, base, kind)
        named = {file: name for file in files if (name := _name_of(file, base, kind)) is not None}
        nameless = [file for file in files if file.parent == base]
        if named or nameless:
            found = _of_one_data_set(root, files, named, kind) if named else _without_names(root, nameless, kind)
            return replace(found, seen=tuple(files))
    inner = _inner(tree, root, kind)
    if len(inner) != 1:
        raise DataError(f"{root} holds data sets in folders of their own: give one of them, {listed(map(str, inner))}")
    found = find_files(tree, inner[0], kind)
    said = f"{root.name} holds the one folder {inner[0].name!r}: its contents are read"
    return replace(found, notes=(said, *found.notes))


def holds_files(tree: Tree, root: Path, kind: Kind) -> bool:
    """True where :func:`find_files` has something to find, or to refuse."""
    return any(_candidates(tree, base, kind) for base in _bases(tree, root)) or bool(_inner(tree, root, kind))


def alone(tree: Tree, file: Path, kind: Kind) -> Files:
    """Single file as train, whatever its name; notes on other files suggested by its name and folder."""
    name, notes, as_train = file_name(kind.stem(file)), list[str](), list[str]()
    if name is not None and name.role != "train":
        as_train.append(f"{file.name} is called as {WRITTEN[name.role]} is: given alone, it is taken as train")
    if beside := [
        other.name for other in tree.files(file.parent, kind.endings) if kind.takes(other) and other.name != file.name
    ]:
        notes.append(f"{file.name} alone is read, not what lies beside it: {listed(beside)}")
    if name is not None:
        notes += _missing_shards(name.role, [(file, name)])
    return Files({"train": [file]}, file.parent, tuple(notes), tuple(as_train), named=False, alone=True, seen=(file,))


def _bases(tree: Tree, root: Path) -> list[Path]:
    return [root, *(folder for folder in tree.folders(root) if folder.name == "data")]


def _inner(tree: Tree, root: Path, kind: Kind) -> list[Path]:
    """Folders in ``root`` with files, or with files in subfolders named after a split."""
    return [
        folder
        for folder in tree.folders(root)
        if any(_name_of(file, folder, kind) or file.parent == folder for file in _candidates(tree, folder, kind))
    ]


def _candidates(tree: Tree, base: Path, kind: Kind) -> list[Path]:
    """Files of the kind in ``base`` and in the folders there."""
    files = [file for folder in (base, *tree.folders(base)) for file in tree.files(folder, kind.endings)]
    return sorted(file for file in files if not file.name.startswith(".") and kind.takes(file))


def _name_of(file: Path, base: Path, kind: Kind) -> FileName | None:
    """Name with a file's split: in ``base`` its own, else its folder's, which its own may not contradict."""
    own = file_name(kind.stem(file))
    if file.parent == base:
        return own
    role = role_of(file.parent.name.removesuffix(file.suffix))
    if role is not None and own is not None and own.role != role:
        raise DataError(
            f"{file} is called as {WRITTEN[own.role]} is, in a folder of {WRITTEN[role]}: move or rename it"
        )
    return None if role is None else FileName("", role)


def _of_one_data_set(root: Path, files: list[Path], named: dict[Path, FileName], kind: Kind) -> Files:
    prefixes = sorted({name.prefix for name in named.values()})
    if len(prefixes) > 1 and "" not in prefixes:
        raise DataError(f"{root} holds files of several data sets, {listed(prefixes)}: give each a folder of its own")
    chosen = {file: name for file, name in named.items() if name.prefix == prefixes[0]}
    of: dict[Role, list[Path]] = {}
    notes = []
    for file in files:
        if file in chosen:
            of.setdefault(chosen[file].role, []).append(file)
    left = [str(file.relative_to(root)) for file in files if file not in chosen]
    if left:
        count = f"{len(left)} {kind.called} file{'s' * (len(left) > 1)}"
        notes.append(f"{count} left out, as the name is not a split's, or in another folder: {listed(left)}")
    for role, paths in of.items():
        notes += _missing_shards(role, [(path, chosen[path]) for path in paths])
    return Files(of, root, tuple(notes))


def _without_names(root: Path, files: list[Path], kind: Kind) -> Files:
    if half := [file.name for file in files if speaks_of_a_split(kind.stem(file))]:
        suffix = files[0].suffix
        raise DataError(
            f"cannot tell which split {listed(half)} belongs to: call the files train{suffix}, validation{suffix}, "
            f"test{suffix}, or train-00000-of-00002{suffix} and so on"
        )
    what = f"all {len(files)} files, whose names are no splits', are" if len(files) > 1 else "the file is"
    as_train = f"{what} taken as train: {listed(file.name for file in files)}"
    return Files({"train": files}, root, as_train=(as_train,), named=False)


def _missing_shards(role: Role, files: list[tuple[Path, FileName]]) -> list[str]:
    """Note on missing shards; :class:`DataError` for duplicate ones."""
    totals = {name.total for _, name in files if name.total is not None}
    if len(totals) > 1:
        raise DataError(f"the {WRITTEN[role]} files count to different totals, {sorted(totals)}: keep one set of them")
    seen: dict[int, Path] = {}
    for path, name in files:
        if name.index is not None and name.index in seen:
            raise DataError(f"{seen[name.index]} and {path} are both the same part of {WRITTEN[role]}: remove one")
        if name.index is not None:
            seen[name.index] = path
    counted = [path for path, name in files if name.total is not None]
    if counted and len(counted) < len(files):
        others = [path.name for path, name in files if name.total is None]
        raise DataError(f"{listed(others)} and {counted[0].name} may hold the same images: keep the one or the other")
    counts = len(seen) == len(files) and min(seen, default=2) < 2  # from 0 or 1, and not sizes or years
    expected = max(totals, default=max(seen) - min(seen) + 1 if counts else len(files))
    if len(files) >= expected:
        return []
    have = f"only {len(files)} of the {expected} {WRITTEN[role]} files are there"
    return [f"{have}: the others' images are not in the task"]
