"""``describe_data``: from the name of a data set to its description."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robust_transfer.config import expect
from robust_transfer.data.class_order import in_one_order
from robust_transfer.data.cutting import held_out_for_test
from robust_transfer.data.formats import ColumnNames, Role, StoredDataset, open_dataset
from robust_transfer.data.formats.base import StoredSplit
from robust_transfer.data.subsets import stratified
from robust_transfer.data.survey.copies import CopyReport, between, within
from robust_transfer.data.survey.description import Between, DataDescription, Odd, Sides, SplitDescription
from robust_transfer.data.survey.look import Looks, look_through
from robust_transfer.data.survey.suspicions import suspicions
from robust_transfer.data.weights import imbalance
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.progress import stage

LIMIT = 50_000  # images that are looked at, in all splits together
EXAMPLES = 3
ROLES: tuple[Role, ...] = ("train", "val", "test")
SIZES = 1000  # different sizes that are counted one by one


def describe_data(
    data: str | Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    examples: int = LIMIT,
    seed: int = 0,
    quiet: bool = True,
) -> DataDescription:
    """Read a data set and describe it: splits, classes, sizes, kinds of files, copies, conflicts, unusual images.

    ``data`` and its columns as for :func:`load_task`, which may refuse what is described here: ``problems`` says why, as far
    as that depends on the data alone. Every image is decoded once and let go of; less than 100 bytes of each are kept. At
    most ``examples`` images are looked at: of more, a sample, stratified by class and drawn by ``seed``, in proportion to
    the splits. Without ``quiet`` progress is shown. Raises :class:`DataError` for what is no data set at all.
    """
    expect("examples", examples, Integral)
    if examples < 1:
        raise ConfigError(f"examples is a number of images to look at, at least 1, not {examples}")
    if not 0 <= seed < 2**31:
        raise ConfigError(f"seed must be between 0 and 2^31 - 1, not {seed}")
    with stage(f"reading {data}", None, quiet):
        stored = open_dataset(data, ColumnNames(image_column, label_column, split_column))
    chosen = {role: _chosen(stored, role, examples, seed) for role in stored.splits}
    with stage(f"looking through {data}", sum(map(len, chosen.values())), quiet) as bar:
        looks = {
            role: look_through(split.images, split.labels.numpy(), chosen[role], bar.advance)
            for role, split in stored.splits.items()
        }
    splits = {str(role): _described(split, looks[role]) for role, split in stored.splits.items()}
    pairs = [
        Between(one, other, _between(stored.splits[one], looks[one], stored.splits[other], looks[other]))
        for other, one in combinations([role for role in ROLES if role in stored.splits], 2)
    ]
    notes, problems = list(stored.notes), list[str]()
    try:
        notes = list(in_one_order(stored).notes)
    except DataError as error:
        problems.append(str(error))
    if damaged := sum(len(look.damaged) for look in looks.values()):
        problems.append(f"{damaged} images cannot be decoded: repair them, or remove them from the data")
    elif set(stored.splits) == {"train"} and len(looks["train"].places) == len(stored.splits["train"].labels):
        try:
            out = held_out_for_test(stored, looks["train"].prints.exact)
            notes.append(f"there is no test split: {int(out.sum())} images of train are to be set aside as test")
        except DataError as error:
            problems.append(str(error))
    return DataDescription(stored.name, splits, pairs, notes, problems)


def _chosen(stored: StoredDataset, role: Role, examples: int, seed: int) -> NDArray[np.int64]:
    split = stored.splits[role]
    total, n = sum(len(each.labels) for each in stored.splits.values()), len(split.labels)
    if total <= examples:
        return np.arange(n)
    size = max(1, examples * n // total)
    found: NDArray[np.int64] = stratified(
        split.labels, len(split.class_names), size, seed=seed, purpose=f"survey/{role}"
    ).numpy()
    return found


def _described(split: StoredSplit, looks: Looks) -> SplitDescription:
    counts = torch.bincount(split.labels, minlength=len(split.class_names)).tolist()
    name = _namer(split, looks)
    whole = looks.whole
    width, height = (_sides(some[whole]) if len(whole) else None for some in (looks.width, looks.height))
    sizes = Counter(zip(looks.width[whole].tolist(), looks.height[whole].tolist(), strict=True))
    return SplitDescription(
        images=len(split.labels),
        looked_at=len(looks.places),
        classes=dict(zip(split.class_names, counts, strict=True)),
        imbalance=imbalance(counts),
        width=width,
        height=height,
        sizes={f"{w}x{h}": count for (w, h), count in sizes.most_common(SIZES)},
        modes=dict(looks.modes.most_common()),
        kinds=dict(looks.kinds.most_common()),
        copies=within(looks, name),
        suspicious={
            what: Odd(len(rows), [_told(what, looks, int(row), name) for row in rows[:EXAMPLES]])
            for what, rows in suspicions(looks).items()
        },
    )


def _between(one: StoredSplit, looks: Looks, other: StoredSplit, others: Looks) -> CopyReport:
    places = {name: number for number, name in enumerate(one.class_names)}
    theirs = np.array([places.get(name, -1) for name in other.class_names], np.int64)
    return between(looks, others, theirs[others.labels], _namer(one, looks), _namer(other, others))


def _namer(split: StoredSplit, looks: Looks) -> Callable[[int], str]:
    return lambda row: split.images.where(int(looks.places[row]))


def _told(what: str, looks: Looks, row: int, name: Callable[[int], str]) -> str:
    if what == "damaged":
        return looks.damaged[row].removeprefix("cannot decode ").removesuffix(": repair it, or remove it from the data")
    return f"{name(row)}, {looks.width[row]}x{looks.height[row]}"


def _sides(some: NDArray[np.int32]) -> Sides:
    return Sides(int(some.min()), int(np.median(some)), int(some.max()))
