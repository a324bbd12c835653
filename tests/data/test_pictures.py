"""Pictures in lists: they give what files of the same mode give, and stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images import encoded, picture
from PIL import Image

from robust_transfer.data import Task, load_task
from robust_transfer.data.pictures import SIXTEEN_BITS
from robust_transfer.errors import ConfigError, DataError

NAMES = ["cat", "dog"]


def random(shape: tuple[int, ...], kind: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


def palette(transparent: bool) -> Image.Image:
    image = Image.fromarray(random((8, 8, 3))).quantize(16)
    if transparent:
        image.info["transparency"] = bytes([0, 51] + [255] * 14)
    return image


def turned(fmt: str) -> tuple[Image.Image, str, dict[str, Any]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return Image.fromarray(random((8, 8, 3))), fmt, {"exif": exif}


MODES: dict[str, Callable[[], tuple[Image.Image, str, dict[str, Any]]]] = {
    "1": lambda: (Image.fromarray(random((8, 8)) > 99), "PNG", {}),
    "L": lambda: (Image.fromarray(random((8, 8))), "PNG", {}),
    "LA": lambda: (Image.fromarray(random((8, 8, 4)), "RGBA").convert("LA"), "PNG", {}),
    "P": lambda: (palette(False), "PNG", {}),
    "P, transparent": lambda: (palette(True), "PNG", {}),
    "RGB": lambda: (Image.fromarray(random((8, 8, 3))), "PNG", {}),
    "RGBA": lambda: (Image.fromarray(random((8, 8, 4))), "PNG", {}),
    "CMYK": lambda: (Image.fromarray(random((8, 8, 4)), "CMYK"), "TIFF", {}),
    "I;16": lambda: (Image.fromarray(random((8, 8), np.uint16)), "PNG", {}),
    "I;16, tiff": lambda: (Image.fromarray(random((8, 8), np.uint16)), "TIFF", {}),
    "I;16, ppm": lambda: (Image.fromarray(random((8, 8), np.uint16)), "PPM", {}),
    "turned jpeg": lambda: turned("JPEG"),
    "turned png": lambda: turned("PNG"),
    "turned tiff": lambda: turned("TIFF"),
    "wide": lambda: (Image.fromarray(random((5, 9, 3))), "PNG", {}),
}


def listed(items: list[Any]) -> list[tuple[Any, str]]:
    return [(item, NAMES[i % 2]) for i, item in enumerate(items)]


def pixels(task: Task, index: int = 0) -> torch.Tensor:
    part = task.train if index in task.train.ids else task.test
    part = part if part.size is not None else part.at_size(6)
    return part.images()[part.ids.tolist().index(index)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [2**31, 0])
def test_a_picture_gives_what_a_file_of_its_mode_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, limit: int
) -> None:
    monkeypatch.setattr("robust_transfer.data.split.MEMORY_LIMIT", limit)
    image, fmt, options = MODES[mode]()
    others = [picture(0, i) for i in range(6)]
    paths = []
    for number, each in enumerate([image, *map(Image.fromarray, others)]):
        paths.append(tmp_path / f"{number}.{fmt.lower()}")
        each.save(paths[-1], fmt if not number else "PNG", **(options if not number else {}))
    files = load_task(listed(paths), val=0)
    with Image.open(paths[0]) as again:
        before = again.copy()
        for first in (again, image) if not options and image.mode == again.mode else (again,):
            task = load_task(listed([first, *others]), val=0)
            assert torch.equal(pixels(task), pixels(files))
            assert torch.equal(task.test.ids, files.test.ids)
            assert (task.name, task.class_names) == ("a list of pictures", tuple(NAMES))
            assert first.tobytes() == before.tobytes(), "it is left as it is"
            assert first.size == before.size


@pytest.mark.parametrize(
    ("array", "same"),
    [
        (random((8, 8)), lambda a: np.repeat(a[..., None], 3, 2)),
        (random((8, 8, 1)), lambda a: np.repeat(a, 3, 2)),
        (random((8, 8, 3)), lambda a: a),
        (random((3, 8, 8)), lambda a: np.moveaxis(a, 0, -1)),
        (torch.from_numpy(random((3, 8, 8))), lambda a: a.permute(1, 2, 0).numpy()),
        (random((8, 8), np.uint16), lambda a: np.repeat(((a.astype(int) + 128) // 257)[..., None], 3, 2)),
    ],
)  # fmt: skip
def test_arrays_of_one_image_each(array: Any, same: Callable[[Any], np.ndarray]) -> None:
    task = load_task(listed([array, *(picture(0, i) for i in range(6))]), val=0)
    np.testing.assert_array_equal(pixels(task).permute(1, 2, 0).numpy(), same(array))
    assert (SIXTEEN_BITS in task.notes) == (array.dtype == np.uint16)


def test_pictures_and_arrays_in_one_list_and_in_splits() -> None:
    arrays = [picture(0, i) for i in range(8)]
    mixed = [Image.fromarray(each) if i % 3 else each for i, each in enumerate(arrays)]
    task = load_task({"train": listed(mixed), "test": (np.stack(arrays), NAMES * 4)}, val=0)
    assert torch.equal(task.train.images(), task.test.images())
    assert task.train.labels.tolist() == task.test.labels.tolist() == [0, 1] * 4


def test_one_picture_in_several_rows_is_read_by_one_thread_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    (tmp_path / "a.png").write_bytes(encoded(picture(0, 0, 200)))
    with Image.open(tmp_path / "a.png") as image:
        others = [picture(0, i, 200) for i in range(1, 20)]
        task = load_task({"train": listed([image] * 40 + others), "test": listed(others)}, val=0)
    for row in range(40):
        np.testing.assert_array_equal(task.train.images()[row].permute(1, 2, 0), picture(0, 0, 200))


def closed(tmp_path: Path) -> Image.Image:
    (tmp_path / "a.png").write_bytes(encoded(picture(0, 0)))
    with Image.open(tmp_path / "a.png") as image:
        return image


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (lambda _: (picture(0, 0) / 255, "cat"), r"row 1 \(from 0\) of the list of train: an image must be a picture"),
        (lambda _: (random((8, 8, 3), np.uint16), "cat"), r"row 1 .* not uint16: their range is not known"),
        (lambda _: (random((0, 8), np.uint16), "cat"), r"row 1 \(from 0\) of the list of train: an image must be"),
        (lambda _: (np.zeros((8, 8, 2), np.uint8), "cat"), r"row 1 .* not \(8, 8, 2\)"),
        (lambda _: (np.stack([picture(0, 0)] * 2), "cat"), r"row 1 .* not \(2, 8, 8, 3\)"),
        (lambda _: (Image.fromarray(np.zeros((8, 8), np.float32)), "cat"), r"the image in row 1 \(from 0\) .*floating"),
        (lambda _: (Image.fromarray(np.zeros((8, 8), np.int32)), "cat"), r"the image in row 1 .*32-bit integer pixels"),
        (lambda tmp: (closed(tmp), "cat"), r"cannot decode the image in row 1 \(from 0\) of the list of train \("),
        (lambda _: (picture(0, 0), None), "an image has no label"),
        (lambda _: (picture(0, 0), 3), "the labels are names and whole numbers"),
    ],
)  # fmt: skip
def test_pictures_that_cannot_be_used_are_told(tmp_path: Path, row: Callable[[Path], Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        load_task([(picture(0, 1), "dog"), row(tmp_path), *listed([picture(0, i) for i in range(2, 8)])], val=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(picture(0, 0), 0), ("a.png", 1)], r"row 1 \(from 0\) of the list of train is a path where others are pictures"),
        ([("a.png", 0), (picture(0, 0), 1)], r"row 1 \(from 0\) of the list of train is a picture where others are paths"),
        ([(picture(0, 0), 0), (picture(0, 1),)], r"row 1 \(from 0\) of the list of train is tuple: data is to be"),
        ([(picture(0, 0), 0), picture(0, 1)], r"row 1 \(from 0\) of the list of train is ndarray: data is to be"),
        ([(0, picture(0, 0))], r"row 0 \(from 0\) of the list of train is tuple: data is to be"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_pictures_is_told(rows: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_task(rows)
