"""Image folders: ``train/<class>/*``, ``test/<class>/*``, perhaps ``val/<class>/*``; or just ``<class>/*``."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from robust_transfer.data.encoded import FileImages
from robust_transfer.data.source import WRITTEN, RawSplit, Role, Source, role_of
from robust_transfer.errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def read_image_folder(root: Path) -> Source:
    """The data set under ``root``; hidden files and files that are no images are passed over."""
    return Source(root.resolve().name, {role: _read_split(folder, role) for role, folder in _split_folders(root).items()})


def _split_folders(root: Path) -> dict[Role, Path]:
    """Folder of each split. A class may be called "train" too, but then it holds images and not class folders."""
    inside = _folders(root)
    if not inside:
        if _images(root, deep=False):
            raise DataError(f"the images in {root} are in no class folders: put each class's in a folder of its own")
        raise DataError(f"{root} holds neither parquet files nor class folders of images: is it the right folder?")
    roles: dict[Role, Path] = {}
    for folder in inside:
        role = role_of(folder.name)
        if role is None or not _folders(folder):
            continue
        if role in roles:
            raise DataError(f"{roles[role]} and {folder} are both {WRITTEN[role]} splits: rename or remove one of them")
        roles[role] = folder
    if roles:
        return roles
    if any(_images(folder) for folder in inside):
        return {"train": root}
    named = [folder for folder in inside if role_of(folder.name) is not None]
    if named:
        raise DataError(f"the {named[0].name} split in {named[0]} is empty: put its images in {named[0].name}/<class>/")
    raise DataError(f"{root} holds folders, but no images ({', '.join(EXTENSIONS)}) in them: is it the right folder?")


def _read_split(folder: Path, role: Role) -> RawSplit:
    paths: list[Path] = []
    labels: list[int] = []
    names: list[str] = []
    for class_folder in _folders(folder):
        found = _images(class_folder)
        if not found:
            raise DataError(f"the class folder {class_folder} holds no images: add some, or remove the folder")
        paths += found
        labels += [len(names)] * len(found)
        names.append(class_folder.name)
    if not names:
        raise DataError(f"the {WRITTEN[role]} split in {folder} is empty: put its images in {folder.name}/<class>/")
    return RawSplit(FileImages(paths), torch.tensor(labels), tuple(names))


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in _entries(folder) if f.is_dir() and f.name != "__MACOSX")


def _images(folder: Path, deep: bool = True) -> list[Path]:
    """Image files in ``folder`` and, with ``deep``, in the folders under it, by path."""
    files = [f for f in _entries(folder) if f.suffix.casefold() in EXTENSIONS and f.is_file()]
    for inner in _folders(folder) if deep else ():
        files += _images(inner)
    return sorted(files)


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from None
