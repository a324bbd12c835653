"""``load_task`` on what Python holds: the same images in every kind of object are the same task."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images import picture, write_classes
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import CIFAR10, ImageFolder

from robust_transfer.data import Task, load_task
from robust_transfer.errors import ConfigError, DataError

NAMES = ("cat", "dog")
PIXELS = np.stack([picture(0, i) for i in range(20)])
LABELS = [i % 2 for i in range(20)]
TEXT = [NAMES[label] for label in LABELS]


class Items(Dataset[Any]):
    """Counts how often each item is asked for."""

    def __init__(self, give: Callable[[int], Any], label: Callable[[int], Any], classes: Any = None) -> None:
        self.give, self.label, self.asked = give, label, [0] * 20
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        self.asked[index] += 1
        return self.give(index), self.label(index)


class Cifar(CIFAR10):  # type: ignore[misc]
    """CIFAR-10 as torchvision holds it, but for its download."""

    def __init__(self, transform: Any = None) -> None:
        self.root, self.transform, self.target_transform = "", transform, None
        self.data, self.targets, self.classes = PIXELS, LABELS, list(NAMES)


Cifar.__module__ = CIFAR10.__module__


def never(_: Any) -> Any:
    raise AssertionError("the transform must not be called")


def folder(root: Path) -> Path:
    for name in NAMES:
        write_classes(root / name, {".": 0})
    for i in range(20):
        Image.fromarray(PIXELS[i]).save(root / TEXT[i] / f"{i:03d}.png")
    return root


@functools.cache
def expected() -> dict[bytes, str]:
    return {pixels.tobytes(): name for pixels, name in zip(PIXELS, TEXT, strict=True)}


def classes_of(*parts: Any) -> dict[bytes, str]:
    return {
        np.ascontiguousarray(image.permute(1, 2, 0).numpy()).tobytes(): part.class_names[label]
        for part in parts
        for image, label in zip(part.images(), part.labels.tolist(), strict=True)
    }


def loaded(data: Any, **more: Any) -> Task:
    task = load_task(data, val=0, **more)
    assert task.class_names == NAMES
    assert classes_of(task.train, task.test) == expected()
    return task


def chw(i: int) -> torch.Tensor:
    return torch.from_numpy(PIXELS[i]).permute(2, 0, 1)


KINDS: dict[str, Callable[[Path], Any]] = {
    "pairs": lambda root: [(root / TEXT[i] / f"{i:03d}.png", TEXT[i]) for i in range(20)],
    "text pairs": lambda root: tuple((str(root / TEXT[i] / f"{i:03d}.png"), TEXT[i]) for i in range(20)),
    "arrays": lambda _: (PIXELS, TEXT),
    "channels first": lambda _: (np.moveaxis(PIXELS, -1, 1), np.array(TEXT)),
    "tensors": lambda _: (torch.from_numpy(PIXELS), TEXT),
    "pictures": lambda _: Items(lambda i: Image.fromarray(PIXELS[i]), lambda i: LABELS[i], NAMES),
    "items of arrays": lambda _: Items(lambda i: PIXELS[i], lambda i: np.int64(LABELS[i]), list(NAMES)),
    "items of tensors": lambda _: Items(chw, lambda i: torch.tensor(LABELS[i]), NAMES),
    "items with names": lambda _: Items(chw, lambda i: TEXT[i]),
    "image folder": lambda root: ImageFolder(str(root), transform=never),
    "cifar": lambda _: Cifar(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_task(tmp_path: Path, kind: str) -> None:
    data = KINDS[kind](folder(tmp_path))
    task = loaded(data)
    plain = load_task(tmp_path, val=0)
    assert classes_of(task.test) == classes_of(plain.test), "what is held out follows from the content"
    assert "there is no test split" in " ".join(task.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_splits_stand_in_a_dict(tmp_path: Path, kind: str) -> None:
    data = KINDS[kind](folder(tmp_path))
    task = load_task({"train": data, "validation": data, "test": data})
    for part in (task.train, task.val, task.test):
        assert classes_of(part) == expected()
    alone = load_task({"test": data})
    assert (len(alone.train), len(alone.test)) == (0, 20)


def test_numbers_are_called_as_class_names_says() -> None:
    assert loaded((PIXELS, np.array(LABELS)), class_names=NAMES).notes[1:] == ()
    assert loaded((torch.from_numpy(PIXELS), torch.tensor(LABELS)), class_names=list(NAMES))
    assert load_task((PIXELS, LABELS)).class_names == ("0", "1")
    with pytest.raises(
        DataError, match=r"row 1 \(from 0\) of the train split has the label 1, but there are 1 classes"
    ):
        load_task((PIXELS, LABELS), class_names=["cat"])


def test_classes_of_two_parts_are_matched_by_name() -> None:
    turned = Items(lambda i: PIXELS[i], lambda i: 1 - LABELS[i], NAMES[::-1])
    task = load_task({"train": (PIXELS, TEXT), "test": turned}, val=0)
    assert classes_of(task.test) == expected()
    assert any("another order" in note for note in task.notes)


def test_a_part_of_a_data_set(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for whole in (Cifar(), ImageFolder(str(root)), Items(chw, lambda i: LABELS[i], NAMES)):
        order = list(range(20))[::-1]
        task = load_task({"train": Subset(whole, order[:12]), "test": Subset(whole, order[12:])}, val=0)
        both = classes_of(task.train) | classes_of(task.test)
        assert (both, len(task.train), task.class_names) == (expected(), 12, NAMES)


def test_nothing_is_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = Items(chw, lambda i: LABELS[i], NAMES)
    loaded(items)
    assert items.asked == [1] * 20
    monkeypatch.setattr(ImageFolder, "__getitem__", never)
    monkeypatch.setattr(CIFAR10, "__getitem__", never)
    for data in (ImageFolder(str(folder(tmp_path)), never), Cifar(never)):
        said = f"the transform of {type(data).__name__} is left aside: its images are read as they are stored"
        assert said in loaded(data).notes


def test_what_does_not_fit_is_got_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robust_transfer.data.split.MEMORY_LIMIT", 8 * 8 * 3 * 5)
    items = Items(chw, lambda i: LABELS[i], NAMES)
    torch.set_num_threads(4)
    task = loaded(items)
    assert task.train.streamed
    assert min(items.asked) > 1


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((PIXELS / 255, LABELS), r"not float64: \(255 \* images\).round\(\) as uint8"),
        ((PIXELS, LABELS[:-1]), "there are 20 images and 19 labels in train: give one each"),
        ((PIXELS, np.eye(2)[LABELS]), r"a label has the shape \(2,\): give the class number, not a one-hot row"),
        ((PIXELS, [0.5] * 20), "the labels are fractions"),
        ((PIXELS, [None] * 20), "an image has no label"),
        ((PIXELS, [-2, *LABELS[1:]]), r"row 0 \(from 0\) of the train split has the label -2"),
        ([("nowhere.png", 0)], r"1 of the 1 images that the list of train names are not there"),
        ([("https://x.org/a.png", 0)], "holds the address"),
        (
            Items(lambda i: chw(i) / 255, lambda i: 0),
            r"item 0 \(from 0\) of Items: an image must be a picture of PIL, or uint8",
        ),
        (Items(never, lambda i: 0), r"item 0 \(from 0\) of Items cannot be read \(the transform must not be called\)"),
        (TensorDataset(torch.zeros(3, 3, 4, 4, dtype=torch.uint8)), r"item 0 \(from 0\) of TensorDataset is no pair"),
        ([], "the list of train is empty"),
        ((PIXELS[:0], []), "the train split is empty"),
        (Endless(), "Endless has no length"),
        (TensorDataset(torch.zeros(0, 3, 4, 4), torch.zeros(0)), "TensorDataset is empty"),
    ],
)
def test_data_that_cannot_be_used_is_told(data: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_task(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"train": (PIXELS, TEXT), "holdout": (PIXELS, TEXT)},
            "the key 'holdout', which names no split: give 'train', 'val'",
        ),
        (
            {"train": (PIXELS, TEXT), "training": (PIXELS, TEXT)},
            "the key 'training', which names a split for the second time",
        ),
        ({}, "data is an empty dict"),
        ({"train": "folder"}, "the data of train is str, and is to be a name"),
        (["a.png", "b.png"], r"row 0 \(from 0\) of the list of train is 'a.png': data is to be"),
        ({"train": [("a.png", 0)], "test": (PIXELS, TEXT)}, "data has files in 'train' and other objects elsewhere"),
        (3, "data is to be"),
        (None, "data is to be"),
    ],
)
def test_what_is_no_data_is_told(data: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_task(data)


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="data that is in memory has no columns"):
        load_task((PIXELS, TEXT), label_column="label")
    with pytest.raises(ConfigError, match="class_names are of data that is in memory"):
        load_task("builtin:digits", class_names=["a"])
    with pytest.raises(
        ConfigError, match="class_names are the names of the classes in label order, in a list, not 'ab'"
    ):
        load_task((PIXELS, LABELS), class_names="ab")
