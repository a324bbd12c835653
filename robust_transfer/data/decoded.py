"""Stored split, looked through once: its images' fingerprints, and the images themselves where they fit into memory."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from robust_transfer.data import split as limits
from robust_transfer.data.encoded import EncodedReader, Images
from robust_transfer.data.fingerprints import Fingerprints
from robust_transfer.data.split import Content, MemoryReader, Reader, Role, Split


class Decoded:
    """Images with their labels (int64 ``(n,)``). Each is decoded once where all have one square size and fit."""

    def __init__(self, images: Images, labels: Tensor, class_names: tuple[str, ...]) -> None:
        self.images, self.labels, self.class_names = images, labels, class_names

    @cached_property
    def _reader(self) -> Reader:
        everything = torch.arange(len(self.labels))
        reader = EncodedReader(self.images, everything)
        size = reader.native_size
        if size is None or len(everything) * 3 * size * size > limits.MEMORY_LIMIT:
            return reader
        return MemoryReader(reader.read(everything, size))

    @cached_property
    def fingerprints(self) -> Fingerprints:
        """Of all the images, as they are stored."""
        return self._reader.fingerprints(torch.arange(len(self.labels)))

    def split(self, chosen: Tensor, role: Role, notes: tuple[str, ...] = (), like: Split | None = None) -> Split:
        """Images at ``chosen``, int64. Where there are none: at the size of ``like``."""
        if not len(chosen) and like is not None and like.size is not None:
            none = torch.zeros(0, 3, like.size, like.size, dtype=torch.uint8)
            empty = Split.in_memory(none, chosen, self.class_names)
            return Split(
                empty.reader, empty.positions, empty.labels, empty.ids, self.class_names, like.size, role, notes
            )
        content = Content(self._reader, chosen, self.fingerprints.take(chosen.numpy()))
        reader, positions = self._reader, chosen
        if not isinstance(reader, MemoryReader):  # some of the images may be of one size where not all are, and fit
            reader, positions = EncodedReader(self.images, chosen), torch.arange(len(chosen))
        split = Split(
            reader, positions, self.labels[chosen], chosen, self.class_names, reader.native_size, role, notes, content
        )
        return split if split.size is None else split.at_size(split.size)
