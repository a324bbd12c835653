"""Split and Task: labelled images as uint8, in memory where they fit, read on demand where they do not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robust_transfer.config import digest
from robust_transfer.data.class_names import matched
from robust_transfer.data.fingerprints import Fingerprints, joined
from robust_transfer.data.readers import JoinedReader, MemoryReader, Reader
from robust_transfer.data.subsets import stratified
from robust_transfer.data.weights import balanced, checked, imbalance
from robust_transfer.errors import DataError
from robust_transfer.preprocessing import Geometry, Preprocessing

MEMORY_LIMIT = 2 * 2**30  # bytes of decoded uint8 images that a split may keep in memory
_HASHED_PIXELS = 2 * 2**30  # bytes: of more, and of images without a size in common, the fingerprints are hashed

BALANCED = "balanced"
Role = Literal["train", "val", "test"]


def _pixels(images: Any) -> Tensor:
    """``images`` as a tensor in memory; :class:`DataError`, with usual remedies, for anything but pixels."""
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
    """``values`` as int64 ``(n,)``; :class:`DataError` for another length or shape, or fractions."""
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
    """Images as stored, with fingerprints computed on first use.

    ``ahead``: the same reader's images, at the same positions, made into pixels on the way.
    """

    def __init__(
        self, reader: Reader, positions: Tensor, made: Fingerprints | None = None, ahead: MemoryReader | None = None
    ) -> None:
        self.reader, self.positions, self._made, self.ahead = reader, positions, made, ahead

    @property
    def fingerprints(self) -> Fingerprints:
        """Fingerprints of all images, in order."""
        if self._made is None:
            self._made = self.reader.fingerprints(self.positions)
        return self._made

    def subset(self, indices: Tensor) -> Content:
        """Content at ``indices``."""
        made = self._made.take(indices.numpy()) if self._made is not None else None
        return Content(self.reader, self.positions[indices], made, self.ahead)


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images of a data set.

    ``labels`` int64 ``(n,)`` in ``[0, len(class_names))``; ``ids`` int64 ``(n,)``, each image's index in the original
    split (it addresses the image's noise and names it in outcomes); ``size`` the side in pixels they are given at.
    ``role``: the split of its task that it is (part of), None where nobody said. ``notes``: its task's. ``content``:
    the images as they are stored, if its own reader does not give them. ``geometry``: how its pixels are made of those;
    None: they are the stored ones. ``weights`` float64 ``(n,)``: how many times each image counts; None: once.
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
    geometry: Geometry | None = None
    weights: Tensor | None = None

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
        return self.reader.read(self.positions[indices], self._geometry())

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
            weights=None if self.weights is None else self.weights[indices],
        )

    @property
    def _content(self) -> Content:
        return self.content or Content(self.reader, self.positions)

    @property
    def fingerprints(self) -> Fingerprints:
        """Fingerprints of the images as stored, whatever their current size, in order."""
        if self.content is None:
            object.__setattr__(self, "content", self._content)  # made once
        return self._content.fingerprints

    def weighted(self, given: Tensor) -> Split:
        """Same images with weights ``given (n,)``, divided by their mean.

        Raises :class:`DataError` for invalid weights.
        """
        return replace(self, weights=checked(given, len(self)))

    def sample(self, n: int, *, seed: int, purpose: str) -> Split:
        """``n`` images in proportion to the classes, in the split's order; all of them if there are fewer."""
        return self.subset(stratified(self.labels, len(self.class_names), n, seed=seed, purpose=purpose))

    def on(self, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
        """``(pixels, labels, ids)`` of all images on ``device``; pixels as :func:`to_pixels` gives them."""
        return to_pixels(self.images(), device), self.labels.to(device), self.ids.to(device)

    def at_size(self, size: int) -> Split:
        """Same images squashed to another size, by :meth:`prepared`."""
        return self._made_by(Geometry(size=size))

    def prepared(self, how: Preprocessing) -> Split:
        """Same images as a network's input, except for the normalisation, which is part of the network.

        They are made of the stored images, whatever they were made into before, and kept in memory where they fit
        (:data:`MEMORY_LIMIT`), else read on demand.
        """
        return self._made_by(how.geometry)

    def _made_by(self, how: Geometry) -> Split:
        fits = len(self) * 3 * how.size * how.size <= MEMORY_LIMIT
        if how == self.geometry and not (self.streamed and fits):
            return self
        content = self._content
        reader, positions = content.reader, content.positions
        if content.ahead is not None and content.ahead.gives(how):
            reader = content.ahead
        elif fits and not (isinstance(reader, MemoryReader) and reader.gives(how)):
            reader, positions = MemoryReader(reader.read(positions, how), how), torch.arange(len(self))
        return replace(self, reader=reader, positions=positions, size=how.size, content=content, geometry=how)

    @cached_property
    def short_side(self) -> int:
        """Median of the shorter sides of the images as they are stored, in pixels (of at most 1000, evenly spread)."""
        if not len(self):
            raise DataError("there are no images whose size could be told")
        content, some = self._content, torch.linspace(0, len(self) - 1, min(len(self), 1000)).round().long()
        return int(np.median([min(sides) for sides in content.reader.sides(content.positions[some])]))

    @property
    def streamed(self) -> bool:
        """True if images are read on demand rather than kept in memory."""
        return not isinstance(self.reader, MemoryReader)

    @cached_property
    def hash(self) -> str:
        """Hash of images, labels and class names (16 hex digits).

        Of the pixels, up to 2 GiB of them; of more, and of images that have no size in common, it is that of the exact
        fingerprints and of the geometry, for which nothing is decoded again.
        """
        if self.size is None or 3 * len(self) * self.size**2 > _HASHED_PIXELS:
            made = "stored" if self.size is None else digest("geometry", self._geometry())
            exact = self.fingerprints.exact.astype("<u8").tobytes()
            images = hashlib.sha256(made.encode() + exact).hexdigest()[:16]
        else:
            images = self.reader.digest(self.positions, self._geometry())
        labels = hashlib.sha256(self.labels.numpy().tobytes()).hexdigest()
        names = hashlib.sha256("\n".join(self.class_names).encode()).hexdigest()
        return hashlib.sha256(f"{images}{labels}{names}".encode()).hexdigest()[:16]

    def _geometry(self) -> Geometry:
        if self.size is None:
            raise DataError("the images have different sizes: say at which one to read them, with at_size(...)")
        return self.geometry or Geometry(size=self.size)


def joined_splits(one: Split, other: Split, labels: Tensor, ids: Tensor) -> Split:
    """Images of two splits as they are stored; ``labels`` and ``ids`` are the second's in the terms of the first."""
    a, b = one._content, other._content
    cut = int(a.positions.max()) + 1
    reader, positions = JoinedReader(a.reader, cut, b.reader), torch.cat([a.positions, b.positions + cut])
    content = Content(reader, positions, joined([one.fingerprints, other.fingerprints]))
    numbers = torch.cat([one.labels, labels]), torch.cat([one.ids, ids])
    return Split(reader, positions, *numbers, one.class_names, reader.native_size, content=content)


@dataclass(frozen=True, eq=False)
class Task:
    """Data set to learn: train, val and test splits of the same classes. Val may be empty; strategies never see test.

    Labels of val and test are put into the order of train's classes, by name; other classes raise :class:`DataError`.
    ``notes``: sentences on how the splits came about, where the data did not settle it. ``weighting``: how its images are
    weighted, as the card says it; "" where each counts once.
    """

    name: str
    train: Split
    val: Split
    test: Split
    notes: tuple[str, ...] = ()
    weighting: str = ""

    def __post_init__(self) -> None:
        if self.train.weights is not None and not self.weighting:
            object.__setattr__(self, "weighting", f"given ({digest(self.train.weights.tolist())})")
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
        """Record of the data for a card: name, numbers of images, hash of the training split, notes; weights, if any."""
        counts = {"train": len(self.train), "val": len(self.val)}
        weights = {"weights": self.weighting} if self.weighting else {}
        return {"name": self.name, **counts, "hash": self.train.hash, "notes": list(self.notes), **weights}

    def balanced(self) -> Task:
        """Task with equal total weight of each class, in training and in selection on val: see :mod:`.weights`.

        Val is weighted by its own counts, so that its weighted accuracy is its balanced accuracy.
        """
        train, val = (split.weighted(balanced(split.labels, self.num_classes)) for split in (self.train, self.val))
        return replace(self, train=train, val=val, weighting=BALANCED)

    @property
    def imbalance(self) -> float:
        """Ratio of training images in the largest class to those in the smallest."""
        return imbalance(self.train.labels.bincount().tolist())

    @property
    def measure(self) -> str:
        """Prefix for figures on val: "weighted " if its images have weights, else nothing."""
        return "weighted " if self.val.weights is not None else ""

    def at_size(self, size: int) -> Task:
        """Task with every image at ``size`` pixels."""
        return replace(self, train=self.train.at_size(size), val=self.val.at_size(size), test=self.test.at_size(size))

    def prepared(self, how: Preprocessing) -> Task:
        """Task with every split as :meth:`Split.prepared` gives it."""
        return replace(self, train=self.train.prepared(how), val=self.val.prepared(how), test=self.test.prepared(how))


def to_pixels(images: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 images as float32 in [0, 1] on ``device``, channels-last."""
    pixels = images.to(device, non_blocking=True).to(torch.float32) / 255
    return pixels.contiguous(memory_format=torch.channels_last)
