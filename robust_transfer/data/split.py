"""Split and Task: labelled images as uint8, in memory where they fit, read on demand where they do not."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robust_transfer.data.class_names import matched
from robust_transfer.data.decode import CONVERSION
from robust_transfer.data.fingerprints import NONE, Fingerprints, fingerprint
from robust_transfer.data.parallel import in_threads
from robust_transfer.data.subsets import stratified
from robust_transfer.errors import DataError
from robust_transfer.preprocessing import Preprocessing

MEMORY_LIMIT = 2 * 2**30  # bytes of decoded uint8 images that a split may keep in memory
RESIZE = f"{CONVERSION}, the whole image resized to a square with PIL bicubic (antialiased)"
_DIGEST_BYTES = 2**24  # images are hashed in pieces of about this size
_DIGEST_SIZE = 64  # pixels a side, where images have sizes of their own

Role = Literal["train", "val", "test"]


class Reader(ABC):
    """Reader of images: positions in a data set to uint8 RGB tensors."""

    @property
    @abstractmethod
    def native_size(self) -> int | None:
        """Side of the images in pixels where all are squares of one size, else None."""

    @abstractmethod
    def read(self, positions: Tensor, size: int) -> Tensor:
        """Images at ``positions`` (int64, ``(b,)``) as uint8 ``(b, 3, size, size)``."""

    def digest(self, positions: Tensor, size: int) -> str:
        """Hash of the decoded images at ``positions``: the same wherever and however they are stored."""
        digest = hashlib.sha256()
        step = max(1, _DIGEST_BYTES // (3 * size * size))
        for start in range(0, len(positions), step):
            digest.update(self.read(positions[start : start + step], size).numpy().tobytes())
        return digest.hexdigest()[:16]

    def fingerprints(self, positions: Tensor) -> Fingerprints:
        """Fingerprints of the decoded images at ``positions``, at their native size."""
        if not len(positions):
            return NONE
        if self.native_size is None:
            raise DataError("the images have different sizes: this reader knows no native one")
        size, rows = self.native_size, []
        step = max(1, _DIGEST_BYTES // (3 * size * size))
        for start in range(0, len(positions), step):
            images = self.read(positions[start : start + step], size).permute(0, 2, 3, 1).contiguous().numpy()
            rows.append(_fingerprinted(images))
        return Fingerprints(np.concatenate(rows))


def _fingerprinted(images: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows = np.zeros((len(images), NONE.rows.shape[1]), np.uint8)

    def fill(row: int) -> None:
        rows[row] = fingerprint(images[row])

    in_threads(fill, len(images))
    return rows


class MemoryReader(Reader):
    """Images that are already decoded: uint8 ``(n, 3, H, H)``."""

    def __init__(self, images: Tensor) -> None:
        if (
            images.dtype != torch.uint8
            or images.dim() != 4
            or images.shape[1] != 3
            or images.shape[2] != images.shape[3]
        ):
            raise DataError(f"images must be uint8 (n, 3, H, H), not {images.dtype} {tuple(images.shape)}")
        self.images = images

    @property
    def native_size(self) -> int:
        """Their side."""
        return int(self.images.shape[2])

    def read(self, positions: Tensor, size: int) -> Tensor:
        """Resized from the decoded images, which gives the same pixels as decoding again."""
        images = self.images[positions]
        if size == self.native_size:
            return images
        pixels = images.permute(0, 2, 3, 1).numpy()
        resized = np.empty((len(images), 3, size, size), np.uint8)

        def fill(row: int) -> None:
            resized[row] = resize(Image.fromarray(pixels[row]), size)

        in_threads(fill, len(images))
        return torch.from_numpy(resized)


def resize(image: Image.Image, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """RGB image as uint8 ``(3, size, size)``; see :data:`RESIZE`."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1)


def _pixels(images: Any) -> Tensor:
    """``images`` as a tensor in memory; :class:`DataError` for what is no array of pixels, with the usual remedies."""
    wanted = "images must be uint8 (n, 3, H, H)"
    if not isinstance(images, Tensor | np.ndarray):
        raise DataError(f"{wanted}, not {type(images).__name__}: stack images of one size into a tensor or an array")
    given, dtype = tuple(images.shape), str(images.dtype).removeprefix("torch.")
    if dtype != "uint8":
        hint = ": (255 * images).round().to(torch.uint8), if they are in [0, 1]" if "float" in dtype else ""
        raise DataError(f"{wanted}, not {dtype} {given}{hint}")
    if len(given) == 4 and given[1] != 3 and given[3] == 3:
        raise DataError(f"{wanted}, not {given}: move the channels first, images.permute(0, 3, 1, 2)")
    if 0 in given[1:]:
        raise DataError(f"{wanted}, not {given}: images of no pixels hold nothing")
    if isinstance(images, np.ndarray):
        usable = images.flags.writeable and min(images.strides, default=0) >= 0  # by PyTorch; else a copy of them is
        return torch.from_numpy(images if usable else images.copy())
    if images.is_meta or images.layout is not torch.strided:
        raise DataError(f"{wanted}, not a {'meta' if images.is_meta else 'sparse'} tensor: give the pixels themselves")
    return images.cpu()


def _whole_numbers(values: Any, n: int, what: str) -> Tensor:
    """``values`` as int64 ``(n,)``; :class:`DataError` for another number of them, another shape, or fractions."""
    try:
        numbers = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{what} must be {n} whole numbers, not {type(values).__name__}") from None
    if numbers.dim() != 1:
        hint = ": give the class numbers, not one-hot rows" if numbers.dim() == 2 and numbers.shape[1] > 1 else ""
        raise DataError(f"{what} must have the shape ({n},), not {tuple(numbers.shape)}{hint}")
    if len(numbers) != n:
        raise DataError(f"there are {n} images and {len(numbers)} {what}: give one each")
    if n and (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype is torch.bool):
        raise DataError(f"{what} must be whole numbers (such as int64), not {numbers.dtype}")
    return numbers.long()


class Content:
    """Fingerprints of some images as they are stored, made when they are first asked for."""

    def __init__(self, reader: Reader, positions: Tensor, made: Fingerprints | None = None) -> None:
        self._reader, self._positions, self._made = reader, positions, made

    @property
    def fingerprints(self) -> Fingerprints:
        """Those of all images, in their order."""
        if self._made is None:
            self._made = self._reader.fingerprints(self._positions)
        return self._made

    def subset(self, indices: Tensor) -> Content:
        """Of the images at ``indices``."""
        made = self._made.take(indices.numpy()) if self._made is not None else None
        return Content(self._reader, self._positions[indices], made)


@dataclass(frozen=True, eq=False)
class Split:
    """Some labelled images of a data set.

    ``labels`` int64 ``(n,)`` in ``[0, len(class_names))``; ``ids`` int64 ``(n,)``, each image's index in the original
    split (it addresses the image's noise and names it in outcomes); ``size`` the side in pixels they are given at.
    ``role``: the split of its task that it is (part of), None where nobody said. ``notes``: its task's. ``content``:
    where its fingerprints come from, if not from its own reader.
    """

    reader: Reader
    positions: Tensor
    labels: Tensor
    ids: Tensor
    class_names: tuple[str, ...]
    size: int | None
    role: Role | None = None
    notes: tuple[str, ...] = ()
    content: Content | None = None

    @classmethod
    def in_memory(
        cls,
        images: Tensor | NDArray[np.uint8],
        labels: Tensor | NDArray[Any] | Sequence[int],
        class_names: Sequence[str],
        ids: Tensor | Sequence[int] | None = None,
    ) -> Split:
        """Split of decoded images, uint8 ``(n, 3, H, H)``; ``labels`` are n whole numbers in ``[0, len(class_names))``.

        ``ids`` are n different whole numbers (0 to n - 1 if left out). Raises :class:`DataError` for what does not fit.
        """
        reader = MemoryReader(_pixels(images))
        n = len(reader.images)
        checked = _whole_numbers(labels, n, "labels")
        if isinstance(class_names, str) or not isinstance(class_names, Sequence | np.ndarray):
            raise DataError(f"class_names are the names of the classes in label order, in a list, not {class_names!r}")
        names = tuple(class_names)
        if any(not isinstance(name, str) for name in names):
            raise DataError(f"class_names are the names of the classes in label order, not {class_names!r}")
        if len(set(names)) < len(names):
            raise DataError("class_names has a name twice, so classes cannot be told apart by name")
        if n and not 0 <= int(checked.min()) <= int(checked.max()) < len(names):
            wrong = int(checked.min() if checked.min() < 0 else checked.max())
            raise DataError(f"labels count the {len(names)} classes from 0 to {len(names) - 1}, and one is {wrong}")
        positions = torch.arange(n)
        numbers = positions if ids is None else _whole_numbers(ids, n, "ids")
        if len(set(numbers.tolist())) < n:
            raise DataError("ids must be different: they address each image's noise and name it in outcomes")
        return cls(reader, positions, checked, numbers, names, reader.native_size)

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Tensor) -> Tensor:
        """Images at ``indices`` of this split as uint8 ``(b, 3, size, size)``."""
        return self.reader.read(self.positions[indices], self._size())

    def images(self) -> Tensor:
        """All images, uint8 ``(n, 3, size, size)``."""
        return self.fetch(torch.arange(len(self)))

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """``(images uint8, labels, ids)`` in order."""
        for start in range(0, len(self), batch_size):
            indices = torch.arange(start, min(start + batch_size, len(self)))
            yield self.fetch(indices), self.labels[indices], self.ids[indices]

    def subset(self, indices: Tensor) -> Split:
        """Images at ``indices``, in that order."""
        return replace(
            self,
            positions=self.positions[indices],
            labels=self.labels[indices],
            ids=self.ids[indices],
            content=self._content.subset(indices),
        )

    @property
    def _content(self) -> Content:
        return self.content or Content(self.reader, self.positions)

    @property
    def fingerprints(self) -> Fingerprints:
        """Fingerprints of the images as they are stored, whatever size they are given at, in order."""
        if self.content is None:
            object.__setattr__(self, "content", self._content)  # made once
        return self._content.fingerprints

    def sample(self, n: int, *, seed: int, purpose: str) -> Split:
        """``n`` images in proportion to the classes, in the split's order; all of them if there are fewer."""
        return self.subset(stratified(self.labels, len(self.class_names), n, seed=seed, purpose=purpose))

    def on(self, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
        """``(pixels, labels, ids)`` of all images on ``device``; pixels as :func:`to_pixels` gives them."""
        return to_pixels(self.images(), device), self.labels.to(device), self.ids.to(device)

    def at_size(self, size: int) -> Split:
        """Same images at another size, decoded into memory where they fit (:data:`MEMORY_LIMIT`)."""
        if isinstance(self.reader, MemoryReader) and self.reader.native_size == size:
            return replace(self, size=size)
        if len(self) * 3 * size * size > MEMORY_LIMIT:
            return replace(self, size=size)
        images, content = self.reader.read(self.positions, size), self._content
        return replace(self, reader=MemoryReader(images), positions=torch.arange(len(self)), size=size, content=content)

    def prepared(self, how: Preprocessing) -> Split:
        """Same images as a network reads them, but for the normalisation, which is the network's own."""
        return self.at_size(how.size)

    @property
    def streamed(self) -> bool:
        """True if images are read on demand rather than kept in memory."""
        return not isinstance(self.reader, MemoryReader)

    @cached_property
    def hash(self) -> str:
        """Hash of images (at 64 pixels where they have different sizes), labels and class names (16 hex digits)."""
        images = self.reader.digest(self.positions, self.size or _DIGEST_SIZE)
        labels = hashlib.sha256(self.labels.numpy().tobytes()).hexdigest()
        names = hashlib.sha256("\n".join(self.class_names).encode()).hexdigest()
        return hashlib.sha256(f"{images}{labels}{names}".encode()).hexdigest()[:16]

    def _size(self) -> int:
        if self.size is None:
            raise DataError("the images have different sizes: say at which one to read them, with at_size(...)")
        return self.size


@dataclass(frozen=True, eq=False)
class Task:
    """Data set to learn: train, val and test splits of the same classes. Val may be empty; strategies never see test.

    Labels of val and test are put into the order of train's classes, by name; other classes raise :class:`DataError`.
    ``notes``: sentences on how the splits came about, where the data did not settle it.
    """

    name: str
    train: Split
    val: Split
    test: Split
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for role, split in (("val", self.val), ("test", self.test)):
            if not len(split):  # it counts nothing, whatever names it was cut with
                object.__setattr__(self, role, replace(split, class_names=self.train.class_names))
            else:
                found, notes = matched(split, self.train.class_names, given_by=role)
                object.__setattr__(self, role, found)
                object.__setattr__(self, "notes", (*self.notes, *notes))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes, in label order."""
        return self.train.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def record(self) -> dict[str, Any]:
        """Record of the data for a card: name, numbers of images, hash of the training split, notes."""
        counts = {"train": len(self.train), "val": len(self.val)}
        return {"name": self.name, **counts, "hash": self.train.hash, "notes": list(self.notes)}

    def at_size(self, size: int) -> Task:
        """Task with every image at ``size`` pixels."""
        return replace(self, train=self.train.at_size(size), val=self.val.at_size(size), test=self.test.at_size(size))

    def prepared(self, how: Preprocessing) -> Task:
        """Task with every image as :meth:`Split.prepared` gives it."""
        return replace(self, train=self.train.prepared(how), val=self.val.prepared(how), test=self.test.prepared(how))


def to_pixels(images: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 images as float32 in [0, 1] on ``device``, channels-last."""
    pixels = images.to(device, non_blocking=True).to(torch.float32) / 255
    return pixels.contiguous(memory_format=torch.channels_last)
