"""Dictionaries in a file: those of weights, the usual choice among them, and further statements of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from robust_transfer.errors import ConfigError
from robust_transfer.foreign import arrays
from robust_transfer.foreign.contents import Inert, module_state
from robust_transfer.registry import unknown

# Names under which repositories keep weights, those to be preferred first: averages of weights before the weights
# themselves; the last epoch before the best, as RobustBench takes it.
WRAPPERS = (
    "model_state_dict", "state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model", "net", "network",
    "weights", "params", "last", "best", "unaveraged_model_state_dict",
)  # fmt: skip
AVERAGED = {"model_state_dict", "state_dict_ema", "model_ema", "ema_state_dict", "ema"}
NO_WEIGHTS = (
    "optim",
    "schedul",
    "amp",
    "scaler",
    "loss",
    "rng",
    "callbacks",
    "loops",
)  # what keeps tensors, but no network's
MOST_STATED = 40  # plain values of a file that are shown


def states(
    tree: Any, lists: dict[str, str], where: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Dictionaries of tensors by name, outer ones first; ``lists`` collects notes on those that were lists of arrays."""
    if (module := module_state(tree)) is not None:  # torch.save of a whole module
        tree = module
    if not isinstance(tree, Mapping) or depth > 4:
        return
    own = {str(k): v for k, v in tree.items() if isinstance(v, Tensor)}
    if not own and (layers := arrays.layers_of(tree)):
        own, lists[where] = arrays.state_of(layers)
    if any(v.dim() > 1 for v in own.values()):
        yield where, own
    for key, value in tree.items():
        name = str(key)
        if not any(name.lower().startswith(word) for word in NO_WEIGHTS):
            yield from states(value, lists, f"{where}.{name}" if where else name, depth + 1)


def chosen(found: Mapping[str, Any], weights: str | None) -> str:
    """Name of the dictionary selected by ``weights``, or of the usual one.

    Raises :class:`ConfigError` for an unknown name.
    """
    if weights is not None:
        if weights in found:
            return weights
        meant = [name for name in found if last(name) == weights]
        if len(meant) != 1:
            raise ConfigError(unknown("set of weights in the file", weights, list(found)))
        return meant[0]
    if len(found) == 1:
        return next(iter(found))
    return min(found, key=lambda name: (_rank(name), list(found).index(name)))


def _rank(where: str) -> int:
    ranks = [WRAPPERS.index(part) for part in where.split(".") if part in WRAPPERS]
    return max(ranks, default=-1 if not where else len(WRAPPERS))


def averages(where: str, others: tuple[str, ...]) -> bool:
    """Detect whether the weights at ``where`` are averages (EMA) of some of the ``others``."""
    own = (name for name in others if last(name) in WRAPPERS)
    return last(where) in AVERAGED and any(last(name) not in AVERAGED for name in own)


def last(name: str) -> str:
    """Last part of a dotted name."""
    return name.rpartition(".")[2]


def stated(tree: Any) -> dict[str, Any]:
    """Plain values near the top of a file, by their path."""
    found: dict[str, Any] = {}

    def walk(value: Any, where: str, depth: int) -> None:
        value = value.state if isinstance(value, Inert) and module_state(value) is None else value
        if isinstance(value, (str, int, float, bool)) and where and len(found) < MOST_STATED:
            found[where] = value
        elif isinstance(value, Mapping) and depth < 3:
            for key, inner in value.items():
                if not any(str(key).lower().startswith(word) for word in NO_WEIGHTS):
                    walk(inner, f"{where}.{key}" if where else str(key), depth + 1)

    walk(tree, "", 0)
    return found
