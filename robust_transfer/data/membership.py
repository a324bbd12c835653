"""Membership of test, val and shots: a function of an image's content, not of its place, its name or its neighbours.

Each content has a number u in [0, 1), a keyed hash of its exact fingerprint. An image is held out where u is below the
fraction; so data may grow, be renamed, reordered or be stored in another way without loss, and no image that was
trained on comes to be held out. Copies have one u and stay together. Two exceptions keep every class on both sides: one
that would have nothing held out gives its lowest u, one that would keep nothing keeps its highest. So a class of two images
has one on either side. One of a single image is trained on, and no part of val.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robust_transfer.data.subsets import take_shots
from robust_transfer.errors import DataError


def draw(exact: NDArray[np.uint64], purpose: str, seed: int) -> NDArray[np.float64]:
    """Number u in [0, 1) of each content ``(n,)``: BLAKE2b, keyed by ``purpose`` and ``seed``, of its 8 bytes."""
    key = hashlib.sha256(f"{purpose}|{seed}".encode()).digest()
    raw = exact.astype("<u8").tobytes()
    drawn = (hashlib.blake2b(raw[i : i + 8], digest_size=8, key=key).digest() for i in range(0, len(raw), 8))
    return np.frombuffer(b"".join(drawn), "<u8") / 2.0**64


def hold_out(
    labels: NDArray[np.int64],
    exact: NDArray[np.uint64],
    u: NDArray[np.float64],
    fraction: float,
    names: tuple[str, ...],
    what: str | None = None,
) -> tuple[NDArray[np.bool_], list[str]]:
    """Mask ``(n,)`` of held-out images: those with ``u < fraction``, but at least one and not all of every class.

    A class of one image (with its copies) cannot be on both sides: ``what`` ends the sentence that refuses it; without
    one it is kept, none of it is held out, and its name is among those returned.
    """
    out, kept = u < fraction, list[str]()
    for label, name in enumerate(names):
        mine = np.flatnonzero(labels == label)
        if not len(mine):
            continue
        if len(set(exact[mine].tolist())) < 2:
            if what is None:
                kept.append(name)
                out &= ~np.isin(exact, exact[mine])
                continue
            only = "has only one image" if len(mine) == 1 else f"has only one image and {len(mine) - 1} copies of it"
            raise DataError(f"the class {name!r} {only} in train, so none can be set aside for {what}")
        by_u = mine[np.argsort(u[mine], kind="stable")]
        if not out[mine].any():
            out |= exact == exact[by_u[0]]  # wherever that content is, in other classes too
        elif out[mine].all():
            out &= exact != exact[by_u[-1]]
    return out, kept


def ranked(labels: NDArray[np.int64], exact: NDArray[np.uint64], u: NDArray[np.float64], classes: int) -> list[Tensor]:
    """Indices of each class's different images, by u; of copies the first."""
    members = []
    for label in range(classes):
        mine = np.flatnonzero(labels == label)
        _, first = np.unique(exact[mine], return_index=True)
        mine = mine[np.sort(first)]
        members.append(torch.from_numpy(mine[np.argsort(u[mine], kind="stable")]))
    return members


def cut_shots(
    labels: NDArray[np.int64],
    exact: NDArray[np.uint64],
    u: NDArray[np.float64],
    names: tuple[str, ...],
    shots: int,
    val: float | None,
) -> tuple[Tensor, Tensor]:
    """``(train, val)``, indices: of each class the ``shots`` different images of lowest u, some of them val."""
    train, chosen = take_shots(ranked(labels, exact, u, len(names)), names, shots, val)
    # one picture under two labels may have other ranks in the two classes: it is trained on, then, and not val
    both = torch.from_numpy(np.isin(exact[chosen.numpy()], exact[train.numpy()]))
    return train, chosen[~both]
