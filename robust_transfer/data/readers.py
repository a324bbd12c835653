"""Readers of images: positions in a data set to uint8 pixels, decoded on demand or in memory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_transfer.data.fingerprints import NONE, Fingerprints, fingerprint, joined
from robust_transfer.data.parallel import in_threads
from robust_transfer.data.resizing import resized
from robust_transfer.errors import DataError
from robust_transfer.preprocessing import Geometry

_DIGEST_BYTES = 2**24  # images are hashed in pieces of about this size


class Reader(ABC):
    """Reader of images: positions in a data set to uint8 RGB tensors."""

    @property
    @abstractmethod
    def native_size(self) -> int | None:
        """Side of the images in pixels where all are squares of one size, else None."""

    def sides(self, positions: Tensor) -> list[tuple[int, int]]:
        """Width and height in pixels of the stored images at ``positions``."""
        if self.native_size is None:
            raise DataError("the images have different sizes: this reader knows no native one")
        return [(self.native_size, self.native_size)] * len(positions)

    @abstractmethod
    def read(self, positions: Tensor, how: Geometry) -> Tensor:
        """Images at ``positions`` (int64, ``(b,)``) as ``how`` makes them of the stored ones: uint8 ``(b, 3, size, size)``."""

    def digest(self, positions: Tensor, how: Geometry) -> str:
        """Hash of the pixels at ``positions``: the same wherever and however the images are stored."""
        digest = hashlib.sha256()
        step = max(1, _DIGEST_BYTES // (3 * how.size * how.size))
        for start in range(0, len(positions), step):
            digest.update(self.read(positions[start : start + step], how).numpy().tobytes())
        return digest.hexdigest()[:16]

    def fingerprints(self, positions: Tensor) -> Fingerprints:
        """Fingerprints of the decoded images at ``positions``, at their native size."""
        if not len(positions):
            return NONE
        if self.native_size is None:
            raise DataError("the images have different sizes: this reader knows no native one")
        how, rows = Geometry(size=self.native_size), []
        step = max(1, _DIGEST_BYTES // (3 * how.size * how.size))
        for start in range(0, len(positions), step):
            images = self.read(positions[start : start + step], how).permute(0, 2, 3, 1).contiguous().numpy()
            rows.append(_fingerprinted(images))
        return Fingerprints(np.concatenate(rows))


def _fingerprinted(images: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows = np.zeros((len(images), NONE.rows.shape[1]), np.uint8)

    def fill(row: int) -> None:
        rows[row] = fingerprint(images[row])

    in_threads(fill, len(images))
    return rows


class MemoryReader(Reader):
    """Images that are already decoded: uint8 ``(n, 3, H, H)``.

    ``made``: how their pixels were made of the stored images; None where these are the stored ones.
    """

    def __init__(self, images: Tensor, made: Geometry | None = None) -> None:
        if (
            images.dtype != torch.uint8
            or images.dim() != 4
            or images.shape[1] != 3
            or images.shape[2] != images.shape[3]
        ):
            raise DataError(f"images must be uint8 (n, 3, H, H), not {images.dtype} {tuple(images.shape)}")
        self.images, self.made = images, made

    @property
    def native_size(self) -> int:
        """Side of the images."""
        return int(self.images.shape[2])

    def gives(self, how: Geometry) -> bool:
        """True if the images already have the geometry ``how``."""
        return how == self.made or (self.made is None and how.size == how.resized == self.native_size)

    def read(self, positions: Tensor, how: Geometry) -> Tensor:
        """Resize the decoded images, which gives the same pixels as decoding again."""
        if not self.gives(how) and self.made is not None:
            raise DataError(f"images made as {self.made} cannot be made as {how}: start from the stored ones")
        images = self.images[positions]
        if self.gives(how):
            return images
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        made = np.empty((len(images), 3, how.size, how.size), np.uint8)

        def fill(row: int) -> None:
            made[row] = resized(Image.fromarray(pixels[row]), how)

        in_threads(fill, len(images))
        return torch.from_numpy(made)


class JoinedReader(Reader):
    """Images of ``first``, followed by those of ``second``, from position ``cut`` on."""

    def __init__(self, first: Reader, cut: int, second: Reader) -> None:
        self.first, self.cut, self.second = first, cut, second

    @property
    def native_size(self) -> int | None:
        """Common side of both."""
        size = self.first.native_size
        return size if size == self.second.native_size else None

    def sides(self, positions: Tensor) -> list[tuple[int, int]]:
        """Each image by its own reader."""
        both = ((self.second, place - self.cut) if place >= self.cut else (self.first, place) for place in positions)
        return [reader.sides(place[None])[0] for reader, place in both]

    def read(self, positions: Tensor, how: Geometry) -> Tensor:
        """Each image by its own reader."""
        images = torch.empty(len(positions), 3, how.size, how.size, dtype=torch.uint8)
        later = positions >= self.cut
        images[~later] = self.first.read(positions[~later], how)
        images[later] = self.second.read(positions[later] - self.cut, how)
        return images

    def fingerprints(self, positions: Tensor) -> Fingerprints:
        """Each image by its own reader."""
        later = positions >= self.cut
        parts = [self.first.fingerprints(positions[~later]), self.second.fingerprints(positions[later] - self.cut)]
        order = torch.cat([(~later).nonzero(), later.nonzero()]).squeeze(1).argsort()
        return joined(parts).take(order.numpy())
