"""Many synthetic images in parquet files, as a data set of two splits."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

SIDE, COARSE, CLASSES = 32, 4, 10
GROUP = 5_000  # images of a row group
TEST = 0.1  # of all


def write(folder: Path, count: int) -> int:
    """Put ``count`` images, PNG in parquet, into ``folder``, a tenth of them as test; returns their bytes on the disk."""
    folder.mkdir(parents=True)
    test = round(TEST * count)
    schema = pa.schema({"image": pa.binary(), "label": pa.int64()})
    for split, first, last in (("test", 0, test), ("train", test, count)):
        with pq.ParquetWriter(folder / f"{split}.parquet", schema) as file:
            for start in range(first, last, GROUP):
                numbers = np.arange(start, min(start + GROUP, last))
                encoded = [_png(image) for image in pictures(numbers)]
                file.write_table(pa.table({"image": encoded, "label": numbers % CLASSES}, schema))
    return sum(path.stat().st_size for path in folder.iterdir())


def pictures(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images ``(n, 32, 32, 3)``, others for other ``numbers``: patches of colour, with grain."""
    generator = np.random.default_rng(int(numbers[0]))
    coarse = generator.integers(0, 256, (len(numbers), COARSE, COARSE, 3), dtype=np.int16)
    patches = coarse.repeat(SIDE // COARSE, 1).repeat(SIDE // COARSE, 2)
    grain = generator.integers(-8, 9, (len(numbers), SIDE, SIDE, 1), dtype=np.int16)
    images: NDArray[np.uint8] = np.clip(patches + grain, 0, 255).astype(np.uint8)
    return images


def _png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png", compress_level=1)
    return stream.getvalue()
