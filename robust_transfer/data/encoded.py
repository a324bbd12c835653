"""Images as stored (files, columns of bytes, arrays), decoded on demand."""

from __future__ import annotations

import io
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from robust_transfer.data.decode import open_image, to_rgb
from robust_transfer.data.fingerprints import BYTES, Fingerprints, fingerprint
from robust_transfer.data.parallel import in_threads
from robust_transfer.data.readers import Reader
from robust_transfer.data.resizing import resized
from robust_transfer.errors import DataError
from robust_transfer.messages import logger
from robust_transfer.preprocessing import Geometry

log = logger(__name__)

REPORTED = 10_000  # after so many images that are looked through, a line in the log


class Images(ABC):
    """Sequence of images that can be opened by position, from any thread."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def open(self, position: int) -> Image.Image:
        """Image at ``position``, undecoded as far as PIL allows; may raise anything PIL raises."""

    @abstractmethod
    def where(self, position: int) -> str:
        """Name of that image in messages."""


class FileImages(Images):
    """Image files. Of a path its text is kept, which takes less than the object: there may be millions."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self.paths = [os.fspath(path) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, position: int) -> Image.Image:
        """Open the file."""
        return open_image(self.paths[position])

    def where(self, position: int) -> str:
        """File's path."""
        return self.paths[position]


class ArrayImages(Images):
    """Images that are arrays: uint8 ``(n, H, W)`` grey or ``(n, H, W, 3)``."""

    def __init__(self, arrays: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays)

    def open(self, position: int) -> Image.Image:
        """Picture of the array."""
        return Image.fromarray(self.arrays[position])

    def where(self, position: int) -> str:
        """Number of the image."""
        return f"image {position}"


class ColumnImages(Images):
    """Pyarrow column of encoded bytes, of paths, or of structs of the two (the Image feature of HF datasets)."""

    def __init__(self, column: Any, called: str, folder: Path | None = None) -> None:
        self.column, self.called, self.folder = column, called, folder

    def __len__(self) -> int:
        return len(self.column)

    def open(self, position: int) -> Image.Image:
        """Open the bytes, or the file at the path if there are none."""
        value = self.column[position].as_py()
        content: bytes | str | None = value
        if isinstance(value, dict):
            content = value.get("path") if value.get("bytes") is None else value["bytes"]
        if content is None:
            raise ValueError("the row holds none")
        return open_image(io.BytesIO(self._load(content) if isinstance(content, str) else content))

    def _load(self, path: str) -> bytes:
        import fsspec  # type: ignore[import-untyped]

        if "://" not in path:  # a path as it is: the library would take brackets and stars for patterns
            return (self.folder / path if self.folder is not None else Path(path)).read_bytes()
        if self.folder is not None:  # on a disk; the Hub's own library names members of archives so
            raise ValueError("it is an address, and images are read from files")
        with fsspec.open(path, "rb") as file:
            content: bytes = file.read()
        return content

    def where(self, position: int) -> str:
        """Row and column name."""
        return f"the image in row {position} (from 0) of {self.called}"


class ChosenImages(Images):
    """Subset of other images, at ``positions``."""

    def __init__(self, images: Images, positions: Sequence[int]) -> None:
        self.images, self.positions = images, positions

    def __len__(self) -> int:
        return len(self.positions)

    def open(self, position: int) -> Image.Image:
        """Open the underlying image."""
        return self.images.open(self.positions[position])

    def where(self, position: int) -> str:
        """Name of the underlying image."""
        return self.images.where(self.positions[position])


class EncodedReader(Reader):
    """Decodes ``images`` at ``chosen`` (int64) on demand; positions count within the chosen ones."""

    def __init__(self, images: Images, chosen: Tensor) -> None:
        self.images, self.chosen = images, chosen

    @cached_property
    def _side(self) -> int | None:
        """Read from the files' headers, up to the first that differs."""
        sizes = (self._size_of(position) for position in range(len(self.chosen)))
        with quiet_pillow():
            width, height = next(sizes, (0, 0))
            return width if width and width == height and all(size == (width, width) for size in sizes) else None

    @property
    def native_size(self) -> int | None:
        """Side of the chosen images where all are squares of one size, else None."""
        return self._side

    def sides(self, positions: Tensor) -> list[tuple[int, int]]:
        """Read from the files' headers."""
        with quiet_pillow():
            return [self._size_of(position) for position in positions.tolist()]

    def read(self, positions: Tensor, how: Geometry) -> Tensor:
        """Decoded, converted and resized on threads; DataError names an image that cannot be."""
        return self._decoded(positions, how, prints=False)[1]

    def fingerprints(self, positions: Tensor) -> Fingerprints:
        """Decoded once at their native sizes, on threads, and let go of."""
        return self._decoded(positions, None)[0]

    def look_through(self, positions: Tensor, how: Geometry) -> tuple[Fingerprints, Tensor]:
        """Results of :meth:`fingerprints` and :meth:`read`, each image decoded once for both."""
        return self._decoded(positions, how)

    def _decoded(self, positions: Tensor, how: Geometry | None, prints: bool = True) -> tuple[Fingerprints, Tensor]:
        """Fingerprints (none without ``prints``) and pixels (none without ``how``), with a line in the log now and then."""
        places, side = self.chosen[positions].tolist(), how.size if how is not None else 0
        made = np.zeros((len(places) if prints else 0, BYTES), np.uint8)
        images = np.empty((len(places) if how is not None else 0, 3, side, side), np.uint8)

        def fill(row: int) -> None:
            with opened(self.images, places[row]) as image:
                rgb = to_rgb(image)
                if prints:
                    made[row] = fingerprint(np.asarray(rgb), rgb)
                if how is not None:
                    images[row] = resized(rgb, how)

        begun = time.monotonic()
        with quiet_pillow():
            for start in range(0, len(places), REPORTED):
                rows = min(REPORTED, len(places) - start)
                in_threads(lambda row, start=start: fill(start + row), rows)  # type: ignore[misc]
                if start + rows < len(places):
                    seconds = time.monotonic() - begun
                    log.info("images: %d of %d looked through, %.0f s", start + rows, len(places), seconds)
        return Fingerprints(made), torch.from_numpy(images)

    def _size_of(self, position: int) -> tuple[int, int]:
        with opened(self.images, int(self.chosen[position])) as image:
            return image.size


@contextmanager
def opened(images: Images, place: int) -> Iterator[Image.Image]:
    """Image at ``place``; any error inside the block becomes a :class:`DataError` that names it."""
    try:
        with images.open(place) as image:
            yield image
    except MemoryError:
        raise
    except Exception as error:  # PIL's plugins raise whatever they meet: SyntaxError, struct.error, EOFError ...
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not an image of a known format" if unknown else str(error).strip(" .")
        reason = reason or type(error).__name__
        where = images.where(place)
        raise DataError(f"cannot decode {where} ({reason}): repair it, or remove it from the data") from None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence PIL's warnings on unused metadata. Enter it outside threads: filters are global."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield
