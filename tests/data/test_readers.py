"""Pixels are made of the stored images, once, whatever was made of them before; nothing is decoded twice to hash it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images import picture
from PIL import Image
from torch import Tensor

from robust_transfer.data import Split, load_task, split
from robust_transfer.data.encoded import ArrayImages, EncodedReader, FileImages
from robust_transfer.data.readers import JoinedReader, MemoryReader
from robust_transfer.data.resizing import resized
from robust_transfer.errors import DataError
from robust_transfer.preprocessing import Geometry, Preprocessing

CROP = Preprocessing(size=12, resize="crop", short=16, interpolation="bilinear")
NAMES = ("a", "b")


def arrays(n: int, size: int = 24) -> np.ndarray:
    return np.stack([picture(0, i, size) for i in range(n)])


def in_memory(n: int) -> Split:
    images = torch.from_numpy(arrays(n)).permute(0, 3, 1, 2)
    return Split.in_memory(images, torch.arange(n) % 2, NAMES)


def streamed(n: int) -> Split:
    reader = EncodedReader(ArrayImages(arrays(n)), torch.arange(n))
    return Split(reader, torch.arange(n), torch.arange(n) % 2, torch.arange(n), NAMES, reader.native_size)


def by_hand(n: int, how: Preprocessing) -> Tensor:
    return torch.from_numpy(np.stack([resized(Image.fromarray(a), how.geometry) for a in arrays(n)]))


@pytest.mark.parametrize("limit", [2**30, 0])
def test_pixels_do_not_depend_on_what_was_made_before(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(split, "MEMORY_LIMIT", limit)
    for whole in (in_memory(10), streamed(10)):
        once = whole.prepared(CROP)
        again = [
            once.prepared(CROP),
            whole.at_size(6).prepared(CROP),
            whole.prepared(Preprocessing(size=12)).prepared(CROP),
        ]
        for found in (once, *again, once.subset(torch.arange(10)).prepared(CROP)):
            assert torch.equal(found.images(), by_hand(10, CROP))
            assert (found.size, found.geometry) == (12, CROP.geometry)
        assert torch.equal(once.at_size(12).images(), by_hand(10, Preprocessing(size=12)))
        assert len({found.hash for found in (once, *again)}) == 1
        assert once.hash != once.at_size(12).hash
        np.testing.assert_array_equal(once.fingerprints.rows, whole.fingerprints.rows)


def test_pixels_that_were_made_are_not_made_into_others() -> None:
    reader = MemoryReader(by_hand(3, CROP), CROP.geometry)
    with pytest.raises(DataError, match="cannot be made as the whole image squashed to 12 x 12"):
        reader.read(torch.arange(3), Geometry(size=12))


def test_two_readers_in_one() -> None:
    one, other = MemoryReader(in_memory(10).images()[:4]), EncodedReader(ArrayImages(arrays(10)), torch.arange(4, 10))
    both, positions = JoinedReader(one, 4, other), torch.tensor([9, 0, 4, 3, 7])
    assert both.native_size == 24
    assert torch.equal(both.read(positions, CROP.geometry), by_hand(10, CROP)[positions])
    np.testing.assert_array_equal(both.fingerprints(positions).rows, in_memory(10).fingerprints.rows[positions.numpy()])


def test_much_is_hashed_by_its_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {found.prepared(CROP).hash for found in (in_memory(6), streamed(6))}
    monkeypatch.setattr(split, "_HASHED_PIXELS", 0)
    much = [some.prepared(how).hash for some in (in_memory(6), streamed(6)) for how in (CROP, Preprocessing(size=12))]
    assert len(few) == 1
    assert much[:2] == much[2:]
    assert len({*few, *much}) == 3
    changed = in_memory(6).images()
    changed[3, 0, 0, 0] ^= 1
    assert Split.in_memory(changed, in_memory(6).labels, NAMES).prepared(CROP).hash not in much


def test_photos_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, label in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        for i in range(12):
            shape = (20 + i, 30, 3)
            Image.fromarray(np.resize(picture(label, i, 32), shape)).save(tmp_path / name / f"{i}.png")
    decoded = list[int]()

    class Noted(FileImages):
        def open(self, position: int) -> Image.Image:
            image, first = Image.open(self.paths[position]), [position]
            load = image.load

            def noted() -> Any:
                decoded.extend(first)
                first.clear()
                return load()

            image.load = noted  # type: ignore[method-assign]
            return image

    plain = load_task(tmp_path).prepared(CROP)
    monkeypatch.setattr(FileImages, "open", Noted.open)
    task = load_task(tmp_path, prepare=CROP)
    assert len(task.train.hash) == len(task.prepared(CROP).train.hash) == 16
    for part, expected in ((task.prepared(CROP).train, plain.train), (task.prepared(CROP).val, plain.val)):
        assert torch.equal(part.images(), expected.images())
        assert part.hash == expected.hash
    assert sorted(decoded) == list(range(24))
    other = Preprocessing(size=9)
    assert torch.equal(task.prepared(other).train.images(), load_task(tmp_path).prepared(other).train.images())
