"""Check that a state fits the network of its keys; errors name missing, misplaced and misshapen tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from robust_transfer import networks
from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.families.base import Architecture, State

COUNTER = ".num_batches_tracked"  # of batch norm: old files lack it, and no forward pass in evaluation mode reads it


def broken(layout: str, what: str) -> CheckpointError:
    """Error for an incomplete state in a family's ``layout``."""
    return CheckpointError(f"these are weights in the layout of {layout}, but {what}: get the file again")


def counts(state: State, stages: Sequence[str], layout: str) -> tuple[int, ...]:
    """Units in each of the ``stages``, prefixes before the units' numbers; raises CheckpointError for a gap or an empty one."""
    found = []
    for stage in stages:
        numbers = {key.removeprefix(stage).partition(".")[0] for key in state if key.startswith(stage)}
        units = {int(number) for number in numbers if number.isdecimal()}
        for missing in range(max(units, default=0) + 1):
            if missing not in units:
                raise broken(layout, f"{stage}{missing} is missing")
        found.append(len(units))
    return tuple(found)


def size(state: State, key: str, dimension: int, layout: str) -> int:
    """Size of a tensor along a dimension; raises CheckpointError for a tensor that is missing or has no such dimension."""
    if key not in state:
        raise broken(layout, f"{key!r} is missing")
    if state[key].dim() <= dimension:
        raise broken(layout, f"{key!r} has the shape {tuple(state[key].shape)}")
    return int(state[key].shape[dimension])


def last_layer(state: State, names: Sequence[str], layout: str) -> tuple[str, int, str]:
    """Prefix of the last linear layer among ``names``, its classes, and a sentence on them; ("", 0, ...) for none."""
    for name in names:
        if f"{name}.weight" in state:
            classes = size(state, f"{name}.weight", 0, layout)
            bias = "" if f"{name}.bias" in state else ", and there is no bias"
            return name, classes, f"{classes} classes: {name}.weight has as many rows{bias}"
    return "", 0, f"no classes: there is no {' or '.join(names)}, so this is a feature extractor"


def fitted(state: State, found: Architecture, layout: str) -> Architecture:
    """Network ``found``, after its body and head are shown to have exactly the names and shapes of the ``state``.

    Raises CheckpointError, which names the first that differ. Counters of batch norm may be missing.
    """
    features, shapes = _body(found.network, tuple(sorted(found.settings.items())))
    expected = dict(shapes)
    if found.head:
        expected[f"{found.head}.weight"] = (found.num_classes, features)
        if f"{found.head}.bias" in state:
            expected[f"{found.head}.bias"] = (found.num_classes,)
    left = set(found.unused)
    given = {key: tuple(value.shape) for key, value in state.items() if key not in left and not key.endswith(COUNTER)}
    if missing := [key for key in expected if key not in given]:
        raise broken(layout, f"{_first(missing)} missing")
    for key, shape in expected.items():
        if given[key] != shape:
            raise broken(layout, f"{key!r} has the shape {given[key]} where the rest calls for {shape}")
    if extra := [key for key in given if key not in expected]:
        raise CheckpointError(
            f"these are weights in the layout of {layout}, but {_first(extra)} beside it: "
            "this is another network, which has to be built by its own code (Classifier.from_module)"
        )
    return found


@lru_cache(maxsize=16)
def _body(network: str, settings: tuple[tuple[str, Any], ...]) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Size of the features, and names with shapes, of a network built without memory."""
    with torch.device("meta"):
        body: Any = networks.create(network, num_classes=0, input_size=32, **dict(settings))
    shapes = {key: tuple(value.shape) for key, value in body.state_dict().items() if not key.endswith(COUNTER)}
    return int(body.num_features), shapes


def _first(keys: list[str]) -> str:
    return f"{keys[0]!r} is" if len(keys) == 1 else f"{keys[0]!r} and {len(keys) - 1} more are"
