"""Properties of each image of a stored split: size, mode, kind of file, fingerprint. Some bytes per image are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_transfer.data.decode import to_rgb
from robust_transfer.data.encoded import Images, opened, quiet_pillow
from robust_transfer.data.fingerprints import BYTES, Fingerprints, fingerprint
from robust_transfer.data.parallel import in_threads
from robust_transfer.errors import DataError
from robust_transfer.messages import logger

log = logger(__name__)

BLOCK = 512  # images between two calls of who is told
LOGGED = 20 * BLOCK  # images between two lines of the log
ARRAY = "array"  # the kind of what is no file


@dataclass(frozen=True, eq=False)
class Looks:
    """Properties of the images at ``places`` of a stored split; all arrays ``(n,)``, in their order.

    ``damaged``: why an image could not be decoded, by its row; sizes there are 0, fingerprints blank.
    """

    places: NDArray[np.int64]
    labels: NDArray[np.int64]
    prints: Fingerprints
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    grey: NDArray[np.bool_]
    constant: NDArray[np.bool_]
    modes: Counter[str]
    kinds: Counter[str]
    damaged: dict[int, str]

    @property
    def whole(self) -> NDArray[np.int64]:
        """Rows of the images that could be decoded."""
        return np.flatnonzero(self.width > 0)


def look_through(
    images: Images, labels: NDArray[np.int64], places: NDArray[np.int64], told: Callable[[int], None] = lambda _: None
) -> Looks:
    """Each image at ``places`` decoded once and let go of; ``labels`` are those of all images.

    ``told``: is called with the number of images that more have been looked at.
    """
    n = len(places)
    rows, sizes = np.zeros((n, BYTES), np.uint8), np.zeros((2, n), np.int32)
    grey, constant, kinds = np.zeros(n, bool), np.zeros(n, bool), [("", "")] * n
    damaged: dict[int, str] = {}

    def look(row: int) -> None:
        try:
            with opened(images, int(places[row])) as image:
                kind = image.format or ARRAY, image.mode
                rgb = to_rgb(image)
                pixels = np.asarray(rgb)
        except DataError as error:
            damaged[row] = str(error)
            return
        kinds[row] = kind
        sizes[:, row] = pixels.shape[1::-1]
        grey[row], constant[row] = _of_one_hue(pixels), pixels.min() == pixels.max()
        rows[row] = fingerprint(pixels, rgb)

    with quiet_pillow():
        for start in range(0, n, BLOCK):
            count = min(BLOCK, n - start)
            in_threads(lambda row, start=start: look(start + row), count)  # type: ignore[misc]
            told(count)
            if start + count < n and not (start + count) % LOGGED:
                log.info("images: %d of %d looked at", start + count, n)
    seen = [kind for kind in kinds if kind[0]]
    return Looks(
        places, labels[places], Fingerprints(rows), sizes[0], sizes[1], grey, constant,
        modes=Counter(mode for _, mode in seen), kinds=Counter(kind for kind, _ in seen), damaged=damaged,
    )  # fmt: skip


def _of_one_hue(pixels: NDArray[Any]) -> np.bool_ | bool:
    """True if red, green and blue are the same everywhere; the first row tells most images that have a colour."""
    return all(
        bool((part[..., 0] == part[..., 1]).all() and (part[..., 0] == part[..., 2]).all())
        for part in (pixels[:1], pixels)
    )
