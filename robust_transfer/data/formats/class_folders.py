"""Image folders: ``train/<class>/*``, ``test/<class>/*``, perhaps ``val/<class>/*``; or just ``<class>/*``.

Folders are recognised by their names and by nothing else (:mod:`robust_transfer.data.formats.split_names`); what is
neither is refused with :data:`LAYOUTS`, and every guess is noted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import torch

from robust_transfer.data.formats.base import (
    WRITTEN,
    ColumnNames,
    Role,
    StoredDataset,
    StoredSplit,
    listed,
)
from robust_transfer.data.formats.split_names import DOMAINS, folded, role_of, speaks_of_a_part
from robust_transfer.data.formats.table_cells import names_images
from robust_transfer.data.formats.tree import Tree
from robust_transfer.errors import DataError

LAYOUTS = (
    "<class>/*, train/<class>/* and test/<class>/*, <class>/train/* and <class>/test/*, "
    "or either with a known domain's folder (photo, sketch, amazon ...) above the classes"
)
LABEL_FILES = {".csv", ".tsv", ".json", ".jsonl", ".txt"}
DEEPEST = 8  # folders above the classes


def read_classes(tree: Tree, root: Path, columns: ColumnNames, name: str) -> StoredDataset:
    """Data set of the class folders in ``tree`` under ``root``."""
    columns.refuse(f"the image folder {root}")
    reading = _Reading(tree)
    reading.folder(root, None)
    splits = {role: _stored(tree, classes) for role, classes in reading.found.items()}
    tables = [file.name for file in tree.files(root) if names_images(tree, file)]
    said = [f"the classes are the names of the folders: to read {table!r} instead, give it itself" for table in tables]
    return StoredDataset(name, splits, (*reading.notes, *said, *tree.notes()))


def has_classes(tree: Tree, root: Path) -> bool:
    """True where the folders under ``root`` are classes, two at least, in one of the layouts."""
    reading = _Reading(tree)
    try:
        reading.folder(root, None)
    except DataError:
        return False
    return any(len(classes) > 1 for classes in reading.found.values())


@dataclass
class _Reading:
    """Class folders found so far, by split and class name, and notes on the guesses."""

    tree: Tree
    found: dict[Role, dict[str, list[Path]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def folder(self, folder: Path, role: Role | None, domain: str | None = None, depth: int = 0) -> None:
        """Read ``folder``, of the split ``role`` (None: not settled yet)."""
        inside = self.tree.folders(folder)
        own = self.tree.own_images(folder)
        if depth > DEEPEST:
            raise DataError(f"{folder} lies too deep below other folders: give a folder nearer to it")
        if not inside:
            self._refuse_flat(folder, role, own)
        splits = [inner for inner in inside if role_of(inner.name) is not None]
        if role is None and splits and self._holds_splits(inside, splits):
            self._leave_loose(folder, own)
            self._splits(folder, inside, splits, domain, depth)
        elif (inner := self._wrapper(folder, inside, role)) is not None:
            self._leave_loose(folder, own)
            self.notes.append(f"{folder.name} holds the one folder {inner.name!r}: its contents are read")
            self.folder(inner, role, domain, depth + 1)
        elif self._are_domains(inside):
            self._leave_loose(folder, own)
            names = [inner.name for inner in inside]
            self.notes.append(f"the folders {listed(names)} in {folder.name} are taken for domains, and merged")
            for inner in inside:
                self.folder(inner, role, inner.name, depth + 1)
        elif role is None and self._splits_in_classes(inside):
            self._leave_loose(folder, own)
            self.notes.append(f"the classes in {folder.name} hold splits each: merged by split")
            for inner in inside:
                for part in self.tree.folders(inner):
                    split = role_of(part.name)
                    assert split is not None
                    self._add(split, inner.name, self.tree.images(part), part)
        else:
            self._classes(folder, inside, own, role)

    def _holds_splits(self, inside: Sequence[Path], splits: Sequence[Path]) -> bool:
        """True for folders of splits, False for classes of which one is called "train" (with images, without class folders)."""
        return len(splits) == len(inside) or any(self.tree.folders(split) for split in splits)

    def _splits(
        self, folder: Path, inside: Sequence[Path], splits: Sequence[Path], domain: str | None, depth: int
    ) -> None:
        others = [inner.name for inner in inside if inner not in splits and self.tree.images(inner)]
        if others:
            raise DataError(
                f"{folder} holds the splits {listed(s.name for s in splits)} and also {listed(others)}, which no known "
                "split is called: rename it train, val or test, or move it away"
            )
        roles: dict[Role, Path] = {}
        for split in splits:
            role = role_of(split.name)
            assert role is not None
            if role in roles:
                raise DataError(
                    f"{roles[role]} and {split} are both {WRITTEN[role]} splits: rename or remove one of them"
                )
            roles[role] = split
            self.folder(split, role, domain, depth + 1)

    def _wrapper(self, folder: Path, inside: Sequence[Path], role: Role | None) -> Path | None:
        """Single folder in ``folder`` that is not a class: named like ``folder`` or its split, or a data set of its own."""
        if len(inside) != 1:
            return None
        [inner] = inside
        if role is not None:
            same = folded(inner.name) == folded(folder.name) or role_of(inner.name) == role
            return inner if same and self.tree.folders(inner) else None
        deeper = self.tree.folders(inner)
        if any(role_of(part.name) is not None and self.tree.folders(part) for part in deeper):
            return inner
        return inner if any(self.tree.images(part) for part in deeper) and not self.tree.own_images(inner) else None

    def _are_domains(self, inside: Sequence[Path]) -> bool:
        return len(inside) > 1 and all(
            folded(inner.name) in DOMAINS and self.tree.folders(inner) and not self.tree.own_images(inner)
            for inner in inside
        )

    def _splits_in_classes(self, inside: Sequence[Path]) -> bool:
        parts = [self.tree.folders(inner) for inner in inside]
        return all(inner and all(role_of(part.name) is not None for part in inner) for inner in parts) and not any(
            self.tree.own_images(inner) for inner in inside
        )

    def _classes(self, folder: Path, inside: Sequence[Path], own: Sequence[Path], role: Role | None) -> None:
        parts = {inner: sorted(part.name for part in self.tree.folders(inner)) for inner in inside}
        self._refuse_splits_among(parts)
        if role is None:
            self._refuse_parts(folder, inside)
        shared = [
            name for name, times in Counter(name for names in parts.values() for name in names).items() if times > 1
        ]
        if len(shared) > 1:
            raise DataError(
                f"in {folder} several folders hold the folders {listed(sorted(shared), most=3)}: either level could be "
                f"the classes; leave one. Understood are {LAYOUTS}"
            )
        self._leave_loose(folder, own)
        nested = [inner for inner, names in parts.items() if names]
        if nested:
            self.notes.append(
                f"images in folders under a class, such as {nested[0].name}/{parts[nested[0]][0]}, are taken for the class's"
            )
        found = {inner: self.tree.images(inner) for inner in inside}
        if not any(found.values()):
            self._refuse_flat(folder, None, [])
        for inner, images in found.items():
            self._add(role or "train", inner.name, images, inner)

    def _refuse_splits_among(self, parts: dict[Path, list[str]]) -> None:
        """Refuse splits below some classes only, or beside other folders."""
        for inner, names in parts.items():
            if splits := [name for name in names if role_of(name) is not None]:
                where = f"{inner} holds {listed(splits)}, called as splits are"
            elif names and role_of(inner.name) is not None and not self.tree.own_images(inner):
                where = f"{inner} is called as a split is, and holds folders"
            else:
                continue
            raise DataError(
                f"{where}, where class folders are: put splits above all classes, or each into every class and nothing "
                f"beside them. Understood are {LAYOUTS}"
            )

    def _refuse_parts(self, folder: Path, inside: Sequence[Path]) -> None:
        """Refuse folders that are all named like parts of a data set; a class named like a split is noted."""
        names = [inner.name for inner in inside]
        if all(speaks_of_a_part(name) for name in names):
            raise DataError(
                f"the folders {listed(names)} in {folder} are called as parts of a data set are, not as classes: rename "
                f"splits to train, val and test, with class folders in them. Understood are {LAYOUTS}"
            )
        for name in names:
            if role_of(name) is not None:
                self.notes.append(
                    f"{name!r} in {folder.name} is taken for a class: it holds images, and no class folders"
                )

    def _leave_loose(self, folder: Path, own: Sequence[Path]) -> None:
        if own:
            self.notes.append(
                f"left out: {len(own)} images that are in no class folder, in {folder.name} (such as {own[0].name!r})"
            )

    def _add(self, role: Role, name: str, images: list[Path], folder: Path) -> None:
        if not images:
            left = "".join(f" ({note})" for note in self.tree.notes(folder))
            raise DataError(f"the class folder {folder} holds no images{left}: add some, or remove the folder")
        try:
            name = self.tree.spelt(name)
        except UnicodeDecodeError as error:
            shown = error.object.decode("utf-8", "replace")
            raise DataError(f"the name of the class folder {shown!r} is not UTF-8: rename it") from None
        self.found.setdefault(role, {}).setdefault(name, []).extend(images)

    def _refuse_flat(self, folder: Path, role: Role | None, own: Sequence[Path]) -> None:
        if role is not None:
            what = f"the split in {folder} has no class folders: put its images in {folder.name}/<class>/"
        elif own:
            what = f"the images in {folder} are in no class folders: put each class's in a folder of its own"
        else:
            left = "".join(f" ({note})" for note in self.tree.notes(folder))
            what = f"no parquet files and no class folders of images found in {folder}{left}: is it the right folder?"
        if tables := [path.name for path in self.tree.files(folder) if path.suffix.casefold() in LABEL_FILES]:
            what += f" (nor is {tables[0]!r} a table with a column of paths, such as file_name, and one of labels)"
        raise DataError(f"{what}. Understood are {LAYOUTS}".replace("?.", "?"))


def _stored(tree: Tree, classes: dict[str, list[Path]]) -> StoredSplit:
    names = sorted(classes)
    paths = [path for name in names for path in sorted(classes[name], key=attrgetter("parts"))]
    labels = [label for label, name in enumerate(names) for _ in classes[name]]
    return StoredSplit(tree.opened(paths), torch.tensor(labels), tuple(names))
