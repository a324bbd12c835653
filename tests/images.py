"""Small data sets that the tests make for themselves."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(label: int, index: int, size: int = 8) -> np.ndarray:
    """Random pixels, uint8 (size, size, 3), a function of the label and index."""
    return np.random.default_rng((label, index)).integers(0, 256, (size, size, 3), dtype=np.uint8)


def encoded(array: np.ndarray, fmt: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, fmt, **options)
    return file.getvalue()


def write_parquet(
    path: Path,
    labels: Sequence[Any] | pa.Array,
    *,
    names: Sequence[str] | None = None,
    contents: Sequence[bytes | None] | None = None,
    size: int = 8,
    image: str = "image",
    label: str = "label",
    extra: Mapping[str, Sequence[Any]] | None = None,
) -> Path:
    """Parquet as HF datasets writes it where ``names`` are given, with a ClassLabel; plain columns otherwise.

    Row i holds ``contents[i]``, else ``picture(0, i, size)`` as PNG.
    """
    if contents is None:
        contents = [encoded(picture(0, i, size)) for i in range(len(labels))]
    images = pa.array(
        [{"bytes": content, "path": None} for content in contents],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({image: images, label: pa.array(labels), **(extra or {})})
    if names is not None:
        features = datasets.Features({image: datasets.Image(), label: datasets.ClassLabel(names=list(names))})
        table = table.select([image, label]).cast(features.arrow_schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def write_classes(folder: Path, counts: Mapping[str, int], size: int = 8) -> Path:
    """``folder/<class>/<i>.png``, each ``picture(class number, i, size)``."""
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            (folder / name / f"{index:03d}.png").write_bytes(encoded(picture(label, index, size)))
    return folder


def exact_hash(array: np.ndarray) -> bytes:
    """The exact fingerprint of RGB pixels (H, W, 3), by its definition: SHA-256 of size and bytes, 8 bytes."""
    height, width, _ = array.shape
    return hashlib.sha256(f"{width}x{height}|".encode() + array.tobytes()).digest()[:8]


def number(content: bytes, purpose: str, seed: int) -> float:
    """The number in [0, 1) that decides on membership, by its definition: BLAKE2b keyed by purpose and seed."""
    key = hashlib.sha256(f"{purpose}|{seed}".encode()).digest()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, key=key).digest(), "little") / 2**64
