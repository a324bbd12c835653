"""Stored split, looked through once: its images' fingerprints, and the images themselves where they fit into memory."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from robust_transfer.data import split as limits
from robust_transfer.data.encoded import EncodedReader, Images
from robust_transfer.data.fingerprints import Fingerprints
from robust_transfer.data.readers import MemoryReader, Reader
from robust_transfer.data.split import Content, Role, Split
from robust_transfer.preprocessing import Geometry


class Decoded:
    """Images with their labels (int64 ``(n,)``). Each is decoded once where all have one square size and fit.

    Others are decoded once to look through them; ``ahead`` is then made of them on the way, where that fits.
    """

    def __init__(
        self, images: Images, labels: Tensor, class_names: tuple[str, ...], ahead: Geometry | None = None
    ) -> None:
        self.images, self.labels, self.class_names, self._ahead = images, labels, class_names, ahead

    @cached_property
    def _looked_through(self) -> tuple[Reader, Fingerprints, MemoryReader | None]:
        """Stored images, their fingerprints, and images prepared ahead."""
        everything = torch.arange(len(self.labels))
        reader, ahead = EncodedReader(self.images, everything), self._ahead
        if (size := reader.native_size) is not None and self._fits(size):
            prints, pixels = reader.look_through(everything, Geometry(size=size))
            return MemoryReader(pixels), prints, None
        if ahead is not None and self._fits(ahead.size):
            prints, pixels = reader.look_through(everything, ahead)
            return reader, prints, MemoryReader(pixels, ahead)
        return reader, reader.fingerprints(everything), None

    def _fits(self, size: int) -> bool:
        return len(self.labels) * 3 * size * size <= limits.MEMORY_LIMIT

    @property
    def fingerprints(self) -> Fingerprints:
        """Fingerprints of all images as stored."""
        return self._looked_through[1]

    def split(self, chosen: Tensor, role: Role, notes: tuple[str, ...] = (), like: Split | None = None) -> Split:
        """Images at ``chosen``, int64; an empty selection has the size of ``like``."""
        if not len(chosen) and like is not None and like.size is not None:
            none = torch.zeros(0, 3, like.size, like.size, dtype=torch.uint8)
            empty = Split.in_memory(none, chosen, self.class_names)
            return Split(
                empty.reader, empty.positions, empty.labels, empty.ids, self.class_names, like.size, role, notes
            )
        reader, prints, ahead = self._looked_through
        content, positions = Content(reader, chosen, prints.take(chosen.numpy()), ahead), chosen
        if not isinstance(reader, MemoryReader):  # some of the images may be of one size where not all are, and fit
            reader, positions = EncodedReader(self.images, chosen), torch.arange(len(chosen))
        split = Split(
            reader, positions, self.labels[chosen], chosen, self.class_names, reader.native_size, role, notes, content
        )
        return split if split.size is None else split.at_size(split.size)
