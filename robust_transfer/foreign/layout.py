"""Layout of a checkpoint: its dictionary of weights, the prefix of their names, the stored normaliser.

The wrappers and prefixes are those of the public repositories (RobustBench's loaders, MadryLab's robustness, timm,
Lightning); notes say what was taken and what was left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign import arrays
from robust_transfer.foreign.contents import Contents
from robust_transfer.foreign.wrappers import averages, chosen, last, stated, states
from robust_transfer.preprocessing import Normalisation

PREFIXES = ("module", "model", "base_model", "_orig_mod", "backbone", "net", "network", "encoder", "student", "1")
MEANS = r"(?:new_)?mean|mu|image_mean"
NORMALISER = re.compile(
    rf"^(?P<where>(?:.*\.)?(?:normali[sz](?:er|e|ation)(?:_layer)?|norm|preprocess(?:ing|or)?|0)\.|)(?P<mean>{MEANS})$"
)
STD_OF = {"mean": "std", "new_mean": "new_std", "mu": "sigma", "image_mean": "image_std"}
COUNTER = "num_batches_tracked"
RGB, BGR = "rgb", "bgr"


@dataclass(frozen=True)
class Layout:
    """Weights of one network in a file, and their place in it.

    ``state``: flat, names without ``prefix``, float32, without normaliser and batch counters. ``where``: keys that
    lead to it in the file ("" where it is the whole file). ``normalisation``: stored beside the weights, or None.
    ``others``: further sets of weights, by their ``where``. ``dropped`` and ``notes``: in sentences. ``stated``:
    plain values beside the weights, such as an epoch or an accuracy.
    """

    state: dict[str, Tensor]
    where: str
    prefix: str
    normalisation: Normalisation | None
    others: tuple[str, ...]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    stated: dict[str, Any]
    channels: tuple[str, ...] = (RGB,)


def lay_out(contents: Contents, weights: str | None = None) -> Layout:
    """Weights in a file: the set called ``weights`` ("best", "state_dict"), or the usual one.

    Raises :class:`CheckpointError` where there are none, or two different networks in place of one.
    """
    lists = dict[str, str]()
    found = dict(states(contents.tree, lists))
    if not found:
        only = f", only {', '.join(contents.refused[:4])}" if contents.refused else ""
        only = f"; {arrays.KNOWN}" if arrays.holds_lists(contents.tree) else only
        raise CheckpointError(f"the file holds no weights: there is no dictionary of tensors in it{only}")
    where = chosen(found, weights)
    others = tuple(name for name in found if name != where)
    notes = [lists[where]] if where in lists else []
    if others:
        averaged = "averaged weights (EMA), " if averages(where, others) else ""
        notes.append(
            f"{averaged}{where or 'the top level'!r} was taken; the file also has {', '.join(map(repr, others))}"
        )
    state = {name: tensor.detach() for name, tensor in found[where].items()}
    prefix, state, normalisation, dropped = _unwrapped(state)
    notes += _stood_before(prefix, normalisation)
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items() if last(k) != COUNTER}
    halves = {str(v.dtype).removeprefix("torch.") for v in found[where].values() if v.is_floating_point()} - {"float32"}
    if halves:
        notes.append(f"stored in {', '.join(sorted(halves))}, computed in float32")
    _refuse_broken(state, others)
    if _untrained(state):
        better = [name for name in others if not _untrained(found[name])]
        if better and weights is None:
            raise CheckpointError(
                f"the weights {where!r} have the batch-norm statistics of a new network (mean 0, variance 1), and "
                f"{', '.join(map(repr, better))} do not: say which of them to take"
            )
        notes.append("its batch-norm statistics are those of a new network (mean 0, variance 1): it was never trained")
    channels = (RGB, BGR) if where in lists else (RGB,)
    return Layout(
        state, where, prefix, normalisation, others, tuple(dropped), tuple(notes), stated(contents.tree), channels
    )


def peeled(layout: Layout) -> Layout | None:
    """Layout without the common first part of all names; None where they have none in common.

    For networks that no family recognises: custom wrappers may have any name.
    """
    common = _common_part(layout.state)
    if common is None:
        return None
    inner = {name.removeprefix(f"{common}."): tensor for name, tensor in layout.state.items()}
    prefix, state, normalisation, dropped = _unwrapped(inner)
    return replace(
        layout,
        state=state,
        prefix=f"{layout.prefix}{common}.{prefix}",
        normalisation=layout.normalisation or normalisation,
        dropped=(*layout.dropped, *dropped),
        notes=(
            *layout.notes,
            f"all names begin with {common!r}, a wrapper that is not known",
            *_stood_before(prefix, normalisation),
        ),
    )


def _stood_before(prefix: str, normalisation: Normalisation | None) -> list[str]:
    if not prefix.endswith("1.") or normalisation is not None:
        return []
    return ["something without weights stood before the network (a Sequential's 0), likely a normaliser"]


def _refuse_broken(state: Mapping[str, Tensor], others: tuple[str, ...]) -> None:
    rest = f", or take other weights of it ({', '.join(others)})" if others else ""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"the weights hold values that are not finite, in {name!r}: get the file again{rest}")
        if last(name) == "running_var" and bool((tensor < 0).any()):
            raise CheckpointError(f"the weights hold a negative variance, in {name!r}: get the file again{rest}")


def _untrained(state: Mapping[str, Tensor]) -> bool:
    """True if all batch-norm statistics have their initial values, as in some averaged weights."""
    found = [
        (value, {"running_mean": 0.0, "running_var": 1.0}[last(name)])
        for name, value in state.items()
        if last(name) in ("running_mean", "running_var")
    ]
    return bool(found) and all(bool((value == fresh).all()) for value, fresh in found)


# ---------------------------------------------------------------- prefixes and what stands beside the network


def _unwrapped(state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor], Normalisation | None, list[str]]:
    """Chain of prefixes, state without it, normalisation, and dropped tensors."""
    prefix, normalisation, dropped = "", None, list[str]()
    while True:
        state, stored = _without_normaliser(state)
        if stored is not None:
            if normalisation is not None and stored != normalisation:
                raise CheckpointError(f"the file has two normalisers that differ: {normalisation} and {stored}")
            normalisation = stored
        state, copies = _without_attacker(state)
        dropped += copies
        common = _common_prefix(state)
        if common is None:
            return prefix, state, normalisation, dropped
        state = {name.removeprefix(f"{common}."): tensor for name, tensor in state.items()}
        prefix += f"{common}."


def _common_prefix(state: Mapping[str, Tensor]) -> str | None:
    """First part of all names, if it is a known wrapper's."""
    common = _common_part(state)
    return common if common in PREFIXES else None


def _common_part(state: Mapping[str, Tensor]) -> str | None:
    firsts = {name.partition(".")[0] for name in state}
    return firsts.pop() if len(firsts) == 1 and all("." in name for name in state) else None


def _without_normaliser(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], Normalisation | None]:
    found: dict[str, Normalisation] = {}
    for name, mean in state.items():
        match = NORMALISER.match(name)
        if match is None or mean.numel() not in (1, 3) or not mean.is_floating_point():
            continue
        partner = f"{match['where']}{STD_OF[match['mean']]}"
        if partner in state and state[partner].numel() == mean.numel():
            found[name] = _normalisation(mean, state[partner])
    if not found:
        return state, None
    values = list(found.values())
    for other in values[1:]:
        if other != values[0]:
            raise CheckpointError(f"the file has two normalisers that differ: {values[0]} and {other}")
    gone = {*found, *(name[: -len(last(name))] + STD_OF[last(name)] for name in found)}
    return {name: tensor for name, tensor in state.items() if name not in gone}, values[0]


def _normalisation(mean: Tensor, std: Tensor) -> Normalisation:
    """Normalisation in stored buffers of any shape; values for pixels from 0 to 255 are scaled to [0, 1]."""
    low, high = (value.flatten().double() for value in (mean, std))
    if float(low.abs().max()) > 2:
        low, high = low / 255, high / 255
    rounded = [tuple(round(float(v), 7) for v in value) for value in (low, high)]
    if min(rounded[1]) <= 0:
        raise CheckpointError(f"the stored normaliser divides by {min(rounded[1]):g}: the file is damaged")
    return Normalisation(mean=rounded[0], std=rounded[1])


def _without_attacker(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """State without the second copy of a network that MadryLab's ``AttackerModel`` stores; the copies must agree."""
    copies = {name: tensor for name, tensor in state.items() if name.startswith("attacker.")}
    rest = {name: tensor for name, tensor in state.items() if name not in copies}
    if not copies or not rest:
        return state, []
    for name, tensor in copies.items():
        own = rest.get(name.removeprefix("attacker."))
        if own is not None and (own.shape != tensor.shape or not torch.equal(own, tensor)):
            raise CheckpointError(
                f"the network and the attacker's copy of it differ in {name!r}: the file is damaged, get it again"
            )
    return rest, [f"attacker.*: a second copy of the network, {len(copies)} tensors, equal to the first"]
