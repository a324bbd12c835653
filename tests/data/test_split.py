"""Split and Task, and the drawing of subsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images import picture
from PIL import Image
from torch import Tensor

from robust_transfer.data import Split, Task, split, to_pixels
from robust_transfer.data.encoded import ArrayImages, EncodedReader
from robust_transfer.data.subsets import shuffled_classes, take_shots
from robust_transfer.errors import DataError

NAMES = ("a", "b")


def arrays(n: int, size: int = 8) -> np.ndarray:
    return np.stack([picture(0, i, size) for i in range(n)])


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def in_memory(n: int) -> Split:
    return Split.in_memory(tensor(arrays(n)), torch.arange(n) % 2, NAMES)


def streamed(n: int) -> Split:
    reader = EncodedReader(ArrayImages(arrays(n)), torch.arange(n))
    return Split(reader, torch.arange(n), torch.arange(n) % 2, torch.arange(n), NAMES, reader.native_size)


def test_streamed_and_in_memory_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = in_memory(70), streamed(70)
    assert other.streamed
    assert not one.streamed
    assert one.hash == other.hash
    picked = torch.tensor([60, 3, 3, 9])
    assert torch.equal(one.fetch(picked), other.fetch(picked))
    assert torch.equal(one.subset(picked).images(), other.subset(picked).images())
    small, small_other = one.at_size(5), other.at_size(5)
    assert not small_other.streamed
    monkeypatch.setattr(split, "MEMORY_LIMIT", 70 * 3 * 5 * 5 - 1)
    still_streamed = other.at_size(5)
    assert still_streamed.streamed
    assert torch.equal(small.images(), small_other.images())
    assert torch.equal(small.images(), still_streamed.images())
    assert small.hash == small_other.hash == still_streamed.hash != one.hash


def test_threads_change_nothing() -> None:
    before = torch.get_num_threads()
    one = streamed(100).at_size(6).images()
    try:
        torch.set_num_threads(3)
        assert torch.equal(streamed(100).at_size(6).images(), one)
        assert torch.equal(in_memory(100).at_size(6).images(), one)
    finally:
        torch.set_num_threads(before)


def test_resizing_is_pils_bicubic() -> None:
    expected = np.asarray(Image.fromarray(picture(0, 1)).resize((11, 11), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(in_memory(2).at_size(11).images()[1].permute(1, 2, 0), expected)


def test_subsets_keep_labels_and_ids_with_their_images() -> None:
    whole = in_memory(20)
    twice = whole.subset(torch.tensor([5, 2, 17, 8])).subset(torch.tensor([2, 0]))
    assert twice.ids.tolist() == [17, 5]
    assert twice.labels.tolist() == [1, 1]
    assert torch.equal(twice.images(), whole.images()[[17, 5]])
    assert torch.equal(twice.at_size(4).images(), whole.at_size(4).images()[[17, 5]])


def test_batches_cover_the_split_in_order() -> None:
    whole = in_memory(10)
    batches = list(whole.batches(4))
    assert [len(labels) for _, labels, _ in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([images for images, _, _ in batches]), whole.images())
    assert torch.equal(torch.cat([ids for _, _, ids in batches]), whole.ids)
    assert list(whole.subset(torch.arange(0)).batches(4)) == []


def test_the_hash_sees_pixels_labels_order_and_names() -> None:
    base = in_memory(6)
    pixels = base.images().clone()
    pixels[3, 1, 2, 2] ^= 1
    changed = [
        Split.in_memory(pixels, base.labels, NAMES),
        Split.in_memory(base.images(), 1 - base.labels, NAMES),
        Split.in_memory(base.images(), base.labels, ("a", "c")),
        base.subset(torch.tensor([1, 0, 2, 3, 4, 5])),
    ]
    assert len({s.hash for s in [base, *changed]}) == 5
    assert in_memory(6).hash == base.hash


def test_images_of_different_sizes_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = EncodedReader(ArrayImages(np.zeros((2, 4, 6, 3), np.uint8)), torch.arange(2))
    assert reader.native_size is None  # of one size, but not squares
    mixed = Split(reader, torch.arange(2), torch.arange(2), torch.arange(2), NAMES, None)
    with pytest.raises(DataError, match="at_size"):
        mixed.images()
    assert mixed.at_size(5).images().shape == (2, 3, 5, 5)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4)]
)
def test_other_than_square_rgb_uint8_is_refused_in_memory(images: Tensor) -> None:
    with pytest.raises(DataError, match="uint8"):
        Split.in_memory(images, torch.zeros(2), NAMES)


def test_a_task_is_resized_whole() -> None:
    task = Task("t", in_memory(4), in_memory(4).subset(torch.arange(0)), in_memory(6)).at_size(5)
    assert [s.images().shape for s in (task.train, task.val, task.test)] == [(4, 3, 5, 5), (0, 3, 5, 5), (6, 3, 5, 5)]
    assert task.num_classes == 2


def test_pixels_lie_in_the_unit_interval() -> None:
    pixels = to_pixels(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1))
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels.flatten(), torch.tensor([0, 0.2, 1]))
    assert to_pixels(in_memory(2).images()).is_contiguous(memory_format=torch.channels_last)


class_counts = st.lists(st.integers(2, 60), min_size=2, max_size=8)
seeds = st.integers(0, 2**31 - 1)


def members_of(counts: list[int], seed: int) -> tuple[list[Tensor], Tensor, tuple[str, ...]]:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    return shuffled_classes(labels, len(counts), seed=seed, purpose="test"), labels, tuple(map(str, range(len(counts))))


@settings(max_examples=60, deadline=None)
@given(counts=class_counts, seed=seeds, data=st.data())
def test_shots_are_n_a_class_and_nested(counts: list[int], seed: int, data: st.DataObject) -> None:
    members, labels, names = members_of(counts, seed)
    more = data.draw(st.integers(1, min(counts)))
    fewer = data.draw(st.integers(1, more))
    train, val = take_shots(members, names, more, None)
    both = torch.cat([train, val])
    assert len(both.unique()) == len(both) == more * len(counts)
    wanted = 0 if more < 5 else max(1, round(0.2 * more))
    assert torch.bincount(labels[val], minlength=len(counts)).tolist() == [wanted] * len(counts)
    assert torch.bincount(labels[train], minlength=len(counts)).tolist() == [more - wanted] * len(counts)
    fewer_train, fewer_val = take_shots(members, names, fewer, None)
    assert set(fewer_train.tolist()) | set(fewer_val.tolist()) <= set(both.tolist())
    if fewer >= 5:
        assert set(fewer_train.tolist()) <= set(train.tolist())
        assert set(fewer_val.tolist()) <= set(val.tolist())


def test_the_seed_chooses() -> None:
    chosen = [take_shots(*members_of([50, 50], seed)[::2], 10, None)[0].tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    ("shots", "fraction", "val"), [(5, 0.0, 0), (4, 0.5, 2), (2, 0.1, 1), (10, 0.3, 3), (10, None, 2)]
)
def test_a_fraction_of_the_shots_may_be_given(shots: int, fraction: float | None, val: int) -> None:
    members, labels, names = members_of([12, 12], 0)
    _, chosen = take_shots(members, names, shots, fraction)
    assert torch.bincount(labels[chosen], minlength=2).tolist() == [val, val]


def test_too_few_images_are_told_by_class() -> None:
    members, _, names = members_of([12, 3], 0)
    with pytest.raises(
        DataError, match=r"the class '1' has 3 different images in train, fewer than shots=5: ask for fewer"
    ):
        take_shots(members, names, 5, None)
    with pytest.raises(DataError, match=r"shots=1 leaves no image a class to train on beside val"):
        take_shots(members, names, 1, 0.2)


IMAGES = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.arange(5) % 3, "there are 6 images and 5 labels"),
        (torch.arange(9) % 3, "there are 6 images and 9 labels"),
        (torch.eye(3)[torch.arange(6) % 3], "not one-hot rows"),
        ((torch.arange(6) % 3)[:, None], r"must have the shape \(6,\), not \(6, 1\)"),
        (torch.arange(6) % 3 - 1, "and one is -1"),
        (torch.arange(6), "and one is 5"),
        (torch.arange(6) / 2, "whole numbers .* not torch.float32"),
        (torch.ones(6, dtype=torch.bool), "not torch.bool"),
        (["a"] * 6, "6 whole numbers, not list"),
        (None, "6 whole numbers, not NoneType"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Split.in_memory(IMAGES, labels, ("a", "b", "c"))


def test_lists_and_arrays_of_whole_numbers_are_labels() -> None:
    for labels in ([0, 1, 2, 0, 1, 2], np.array([0, 1, 2, 0, 1, 2], np.uint8), torch.tensor([0, 1, 2, 0, 1, 2]).int()):
        split = Split.in_memory(IMAGES.numpy(), labels, ["a", "b", "c"])
        assert split.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert split.labels.dtype is torch.int64
        assert split.class_names == ("a", "b", "c")


def test_arrays_that_pytorch_does_not_take_are_copied() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), np.uint8)
    wanted = pixels[..., ::-1].tolist()
    fixed = pixels[..., ::-1].copy()
    fixed.flags.writeable = False
    for array in (pixels[..., ::-1], fixed):
        assert Split.in_memory(array, torch.arange(6) % 3, ("a", "b", "c")).images().tolist() == wanted


def test_a_tasks_splits_count_the_classes_as_train_does() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    train = Split.in_memory(IMAGES, labels, ("a", "b", "c"))
    other = Split.in_memory(IMAGES, labels, ("c", "a", "b"))
    task = Task("t", train, other, other)
    for part in (task.val, task.test):
        assert [part.class_names[label] for label in part.labels] == ["c", "a", "b", "c", "a", "b"]
        assert part.class_names == ("a", "b", "c")
    assert "val lists the classes in another order than train: matched by name" in task.notes
    with pytest.raises(DataError, match=r"'c' in train and 'C' in test differ only in upper and lower case"):
        Task("t", train, train, Split.in_memory(IMAGES, labels, ("a", "b", "C")))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"class_names": ("a", "a", "b")}, "a name twice"),
        ({"class_names": "abc"}, "names of the classes in label order"),
        ({"class_names": (0, 1, 2)}, "names of the classes in label order"),
        ({"ids": torch.zeros(6, dtype=torch.int64)}, "ids must be different"),
        ({"ids": torch.arange(5)}, "there are 6 images and 5 ids"),
        ({"images": IMAGES.float()}, "must be uint8"),
        ({"images": IMAGES[:, :1]}, "must be uint8"),
        ({"images": IMAGES[..., :7]}, "must be uint8"),
        ({"images": IMAGES / 255}, r"\(255 \* images\)"),
        ({"images": IMAGES.numpy().astype(">u2")}, "not >u2"),
        ({"images": IMAGES.permute(0, 2, 3, 1)}, "move the channels first"),
        ({"images": list(IMAGES)}, "not list: stack"),
        ({"images": [Image.new("RGB", (8, 8))] * 6}, "not list: stack"),
        ({"images": None}, "not NoneType"),
        ({"images": {"images": IMAGES}}, "not dict"),
        ({"images": IMAGES.to("meta")}, "meta tensor"),
        ({"images": IMAGES.to_sparse()}, "sparse tensor"),
        ({"images": IMAGES[..., :0, :0]}, "of no pixels"),
        ({"class_names": None}, "in label order"),
        ({"class_names": {"a", "b", "c"}}, "in label order"),  # a set has none
        ({"class_names": {"a": 2, "b": 1, "c": 0}}, "in label order"),  # this says another than its own
    ],
)
def test_other_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], said: str) -> None:
    fitting: dict[str, Any] = {"images": IMAGES, "labels": torch.arange(6) % 3, "class_names": ("a", "b", "c")}
    with pytest.raises(DataError, match=said):
        Split.in_memory(**{**fitting, **arguments})
