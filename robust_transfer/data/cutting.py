"""Cuts from train, by the content of images alone: test where the data set has none, and val."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robust_transfer.data.decoded import Decoded
from robust_transfer.data.formats import Role, StoredDataset
from robust_transfer.data.formats.base import listed
from robust_transfer.data.membership import cut_shots, draw, hold_out

VAL_FRACTION = 0.1
VAL_LIMIT = 2000  # images, about, where the fraction is not given
_TEST_SEED = 0  # a test split that moved with the seed would test one run on what another was trained on


class HeldOut(NamedTuple):
    """Stored split that test comes from, its test images, and what of train is left (indices)."""

    role: Role
    tested: Tensor
    pool: Tensor
    notes: tuple[str, ...]


def held_out(source: StoredDataset, stored: Decoded) -> HeldOut:
    """Test images of ``source``: its own, those of its validation split, or some of train. ``stored``: its first split."""
    pool, notes = torch.arange(len(stored.labels)), list[str]()
    role: Role = "test" if "test" in source.splits else "val" if "val" in source.splits else "train"
    tested = torch.arange(len(source.splits[role].labels))
    if role == "val":
        cut = ", and val is cut from train" if "train" in source.splits else ""
        notes.append(f"there is no test split: the validation split is used as test{cut}")
    elif role == "train":
        out = held_out_for_test(source, stored.fingerprints.exact)
        pool, tested = (torch.from_numpy(np.flatnonzero(which)) for which in (~out, out))
        notes.append(
            f"there is no test split: {len(tested)} images of train are set aside as test, by their content, "
            "whatever the seed"
        )
    return HeldOut(role, tested, pool, tuple(notes))


def held_out_for_test(source: StoredDataset, exact: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mask of the images of train, whose exact fingerprints are ``exact (n,)``, that are set aside as test."""
    train, what = source.splits["train"], "testing: add images or a test split"
    u = draw(exact, "data/test", _TEST_SEED)
    return hold_out(train.labels.numpy(), exact, u, source.test_fraction, train.class_names, what)[0]


def cut_val(
    stored: Decoded, pool: Tensor, shots: int | None, seed: int, val: float | None
) -> tuple[Tensor, Tensor, list[str]]:
    """``(train, val)`` indices into the stored train split, out of those in ``pool``, and what is to be said of them."""
    if val == 0 and shots is None:
        return pool, pool[:0], []
    labels, names = stored.labels[pool].numpy(), stored.class_names
    exact = stored.fingerprints.exact[pool.numpy()]
    u = draw(exact, "data/val" if shots is None else "data/shots", seed)
    if shots is not None:
        train, chosen = cut_shots(labels, exact, u, names, shots, val)
        return pool[train], pool[chosen], []
    fraction = min(VAL_FRACTION, VAL_LIMIT / len(pool)) if val is None else val
    out, kept = hold_out(labels, exact, u, fraction, names)
    train, chosen = (torch.from_numpy(np.flatnonzero(which)) for which in (~out, out))
    few = (
        f"{len(kept)} classes have one image each, which stays in train: val has none of"
        if len(kept) > 1
        else ("a class has one image only, which stays in train: val has none of")
    )
    return pool[train], pool[chosen], [f"{few} {listed(kept)}"] if kept else []
