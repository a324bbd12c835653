"""Minibatches of a training step: addressed by seed and step, augmented on the device."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache

import torch
from torch import Tensor

from robust_transfer import randomness
from robust_transfer.data import Augmentation, Split, to_pixels
from robust_transfer.errors import DataError
from robust_transfer.training.objective import Batch
from robust_transfer.training.processes import Processes
from robust_transfer.training.settings import TrainingSettings

AHEAD = 3  # batches that are being read at a time


def batch_order(seed: int, epoch: int, n: int) -> Tensor:
    """Order in which epoch ``epoch`` (from 0) visits ``n`` training images."""
    return randomness.permutation(randomness.Address(seed=seed, purpose="order", step=epoch), n)


class Batches:
    """Batches of a training run, all of one size: the remainder of an epoch waits for the next shuffle.

    Each is seen in ``replays`` successive steps; the number of steps stays, so the data is seen less often.
    ``read=False`` skips loading images, for objectives on precomputed features.
    """

    def __init__(
        self,
        split: Split,
        settings: TrainingSettings,
        seed: int,
        processes: Processes,
        replays: int = 1,
        read: bool = True,
    ) -> None:
        if not len(split):
            raise DataError("there are no training images: the train split is empty")
        self.split, self.seed, self.processes, self.replays = split, seed, processes, replays
        self.size = min(settings.batch_size, len(split)) // processes.world * processes.world
        if not self.size:
            raise DataError(
                f"{len(split)} training images in batches of {settings.batch_size} are too few for "
                f"{processes.world} processes: start fewer, or raise batch_size"
            )
        self.per_epoch = len(split) // self.size
        self.total = max(1, round(settings.epochs * self.per_epoch))
        self.read = read
        self.augment = settings.augmentation(split.size) if read else Augmentation.none()

    def after(self, step: int) -> Generator[Batch, None, None]:
        """Batches of this process from ``step`` on. The iterator may own a thread: close it if not exhausted."""
        device, last = self.processes.device, (self.total - 1) // self.replays
        slots = torch.arange(self.size, device=device)[self.processes.rank :: self.processes.world]
        numbers = range(step // self.replays, last + 1)
        with closing(self._ahead(numbers) if self.read and self.split.streamed else self._at_once(numbers)) as found:
            for number, (images, indices) in zip(numbers, found, strict=True):
                images, ids = images.to(device), self.split.ids[indices].to(device)
                images = self.augment(images, ids, seed=self.seed, epoch=number // self.per_epoch)
                labels, weights = self.split.labels[indices].to(device), self._weights(indices)
                pixels, places = to_pixels(images, device) if self.read else images, indices.to(device)
                first = number * self.replays
                for now in range(max(step, first), min(first + self.replays, self.total)):
                    yield Batch(pixels, labels, ids, places, now, slots, weights, now / self.total)

    def _weights(self, indices: Tensor) -> Tensor | None:
        weights = self.split.weights
        return weights[indices].to(self.processes.device, torch.float32) if weights is not None else None

    def _at_once(self, numbers: range) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Batches from images in memory: a lookup costs less than a competing thread."""
        for number in numbers:
            yield self._read(number)

    def _ahead(self, numbers: range) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Batches decoded ahead, while the previous ones are trained on."""
        with ThreadPoolExecutor(1) as pool:
            ahead: list[Future[tuple[Tensor, Tensor]]] = []
            try:
                for number in numbers:
                    while len(ahead) < AHEAD and number + len(ahead) < numbers.stop:
                        ahead.append(pool.submit(self._read, number + len(ahead)))
                    yield ahead.pop(0).result()
            finally:
                for future in ahead:
                    future.cancel()

    def _read(self, number: int) -> tuple[Tensor, Tensor]:
        epoch, position = divmod(number, self.per_epoch)
        order = _order(self.seed, epoch, len(self.split))
        indices = order[position * self.size : (position + 1) * self.size][self.processes.rank :: self.processes.world]
        return self.split.fetch(indices) if self.read else torch.empty(len(indices), 0), indices


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return batch_order(seed, epoch, n)
