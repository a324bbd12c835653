"""Image folders: ``train/<class>/*``, ``test/<class>/*``, perhaps ``val/<class>/*``; or just ``<class>/*``."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from robust_transfer.data.encoded import FileImages
from robust_transfer.data.source import ROLES, WRITTEN, RawSplit, Role, Source
from robust_transfer.errors import DataError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}  # of the formats that are decoded
EXTENSIONS |= {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"}


def read_image_folder(root: Path) -> Source:
    """The data set under ``root``; hidden files and files that are no images are passed over."""
    return Source(root.resolve().name, {role: _read_split(folder) for role, folder in _split_folders(root).items()})


def _split_folders(root: Path) -> dict[Role, Path]:
    """The folder of each split. A class may be called "train" as well, but then it holds images, not class folders."""
    inside = _folders(root)
    if not inside and _images(root):
        raise DataError(f"the images in {root} are in no class folders: put each class's in a folder of its own")
    named = [folder for folder in inside if _role(folder) is not None]
    if named and (len(named) == len(inside) or any(_folders(folder) for folder in named)):
        return _roles(named)
    if not any(_images(folder) for folder in inside):
        raise DataError(f"no parquet files and no class folders of images found in {root}: is it the right folder?")
    return {"train": root}


def _roles(folders: list[Path]) -> dict[Role, Path]:
    roles: dict[Role, Path] = {}
    for folder in folders:
        role = _role(folder)
        if role is None:
            continue
        if not _folders(folder):
            raise DataError(f"the split in {folder} has no class folders: put its images in {folder.name}/<class>/")
        if role in roles:
            raise DataError(f"{roles[role]} and {folder} are both {WRITTEN[role]} splits: rename or remove one of them")
        roles[role] = folder
    return roles


def _role(folder: Path) -> Role | None:
    return ROLES.get(folder.name.casefold())  # the whole name: "test tubes" is a class


def _read_split(folder: Path) -> RawSplit:
    paths: list[Path] = []
    labels: list[int] = []
    names: list[str] = []
    for class_folder in _folders(folder):
        found = _images(class_folder)
        if not found:
            raise DataError(f"the class folder {class_folder} holds no images: add some, or remove the folder")
        paths += found
        labels += [len(names)] * len(found)
        try:
            class_folder.name.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(class_folder.name).decode("utf-8", "replace")
            raise DataError(f"the name of the class folder {shown!r} is not UTF-8: rename it") from None
        names.append(class_folder.name)
    return RawSplit(FileImages(paths), torch.tensor(labels), tuple(names))


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in _entries(folder) if f.is_dir() and f.name != "__MACOSX")


def _images(folder: Path) -> list[Path]:
    """Image files in ``folder`` and in the folders under it, by path."""
    files = [f for f in _entries(folder) if f.suffix.casefold() in EXTENSIONS and f.is_file()]
    for inner in _folders(folder):
        files += _images(inner)
    return sorted(files)


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from None
