"""Data sets of PyTorch, item by item; those of torchvision by their stored files or pixels, to avoid decoding twice."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset

from robust_transfer.data import split as limits
from robust_transfer.data.arrays import picture_of, pictures_of
from robust_transfer.data.decode import to_rgb
from robust_transfer.data.encoded import ArrayImages, FileImages, Images, quiet_pillow
from robust_transfer.errors import DataError


@dataclass(frozen=True)
class Items:
    """Images, their labels in the data set's form, and class names for numeric labels."""

    images: Images
    labels: Sequence[Any]
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def items_of(dataset: TorchDataset[Any]) -> Items:
    """Items of a data set with a length, whose items are (image, label); raises :class:`DataError`."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DataError(f"{type(dataset).__name__} has no length: give a data set whose items can be counted")
    if not len(dataset):
        raise DataError(f"{type(dataset).__name__} is empty: give a data set with images")
    return _as_torchvision_holds_them(dataset) or _one_by_one(dataset)


def _as_torchvision_holds_them(dataset: Any) -> Items | None:
    """Stored files or pixels of torchvision's own classes, before any transform; None for other data sets."""
    if type(dataset) is Subset:
        whole = _as_torchvision_holds_them(dataset.dataset)
        return whole and _some(whole, [int(index) for index in dataset.indices])
    if not type(dataset).__module__.startswith("torchvision.datasets.") or getattr(dataset, "target_transform", None):
        return None
    names, notes = _class_names(dataset), tuple[str, ...]()
    if getattr(dataset, "transform", None) is not None:
        notes = (f"the transform of {type(dataset).__name__} is left aside: its images are read as they are stored",)
    loader = getattr(getattr(dataset, "loader", None), "__name__", None)
    if loader == "default_loader" and (samples := getattr(dataset, "samples", None)):
        return Items(FileImages([Path(path) for path, _ in samples]), [label for _, label in samples], names, notes)
    pixels, labels = getattr(dataset, "data", None), getattr(dataset, "targets", getattr(dataset, "labels", None))
    if not isinstance(pixels, Tensor | np.ndarray) or labels is None or not len(pixels) == len(labels) == len(dataset):
        return None
    return Items(pictures_of(pixels), labels, names, notes)


def _some(whole: Items, chosen: list[int]) -> Items:
    if isinstance(whole.images, FileImages):
        images: Images = FileImages([whole.images.paths[index] for index in chosen])
    else:
        assert isinstance(whole.images, ArrayImages)
        images = ArrayImages(whole.images.arrays[chosen])
    return Items(images, [whole.labels[index] for index in chosen], whole.class_names, whole.notes)


def _class_names(dataset: Any) -> tuple[str, ...] | None:
    """Class names of a data set, or of the one that it is a subset of."""
    names = getattr(dataset, "classes", None)
    if names is None and isinstance(dataset, Subset):
        return _class_names(dataset.dataset)
    if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _one_by_one(dataset: Any) -> Items:
    """Items read once and kept, if they fit into memory; else read again on demand."""
    kept: list[NDArray[np.uint8]] | None = []
    labels, held = [], 0
    with quiet_pillow():
        for index in range(len(dataset)):
            image, label = _item(dataset, index)
            labels.append(label)
            if kept is not None:
                pixels = np.asarray(to_rgb(image))
                held += pixels.nbytes
                kept.append(pixels)
                if held > limits.MEMORY_LIMIT:
                    kept = None
    images: Images = KeptImages(kept) if kept is not None else ItemImages(dataset)
    return Items(images, labels, _class_names(dataset))


def _item(dataset: Any, index: int) -> tuple[Image.Image, Any]:
    try:
        item = dataset[index]
    except Exception as error:  # third-party code may raise anything
        told = str(error).strip(" .") or type(error).__name__
        raise DataError(
            f"item {index} (from 0) of {type(dataset).__name__} cannot be read ({told}): repair it"
        ) from None
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"item {index} (from 0) of {type(dataset).__name__} is no pair: give items (image, label)")
    image, label = item
    try:
        return image if isinstance(image, Image.Image) else Image.fromarray(picture_of(image)), label
    except DataError as error:
        raise DataError(f"item {index} (from 0) of {type(dataset).__name__}: {error}") from None


class KeptImages(Images):
    """Decoded pictures of any sizes, uint8 ``(H, W, 3)``."""

    def __init__(self, pictures: list[NDArray[np.uint8]]) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def open(self, position: int) -> Image.Image:
        """Picture of the array."""
        return Image.fromarray(self.pictures[position])

    def where(self, position: int) -> str:
        """Number of the image."""
        return f"item {position}"


class ItemImages(Images):
    """Images of a data set's items, read on demand, by one thread at a time."""

    def __init__(self, dataset: Any) -> None:
        self.dataset, self._lock = dataset, threading.Lock()

    def __len__(self) -> int:
        return len(self.dataset)

    def open(self, position: int) -> Image.Image:
        """Image of the item."""
        with self._lock:
            return _item(self.dataset, position)[0]

    def where(self, position: int) -> str:
        """Number of the item."""
        return f"item {position} of {type(self.dataset).__name__}"
