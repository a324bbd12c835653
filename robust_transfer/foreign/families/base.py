"""Base of the families of checkpoints and their registry: a state's keys and shapes determine its network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from robust_transfer.preprocessing import Preprocessing
from robust_transfer.registry import Registry

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """Network determined by a state's keys and shapes.

    ``network`` and ``settings`` are for :func:`robust_transfer.networks.create`; its body's state has the keys of the
    file but for the ``head``, the prefix of the last linear layer ("fc": ``fc.weight``, ``fc.bias``); "" for a feature
    extractor without one. ``inferred``: how each setting was found, in sentences. ``variants``: settings that no file
    tells, with their possible values, the likeliest first. ``unused``: keys that the forward pass never uses.
    ``preprocessings``: what files of the family are known to be used with, the likeliest first. ``alternatives``: other
    networks whose state has the same names and shapes, and which compute something else with it.
    """

    network: str
    num_classes: int
    head: str
    settings: dict[str, Any] = field(default_factory=dict)
    inferred: tuple[str, ...] = ()
    variants: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    preprocessings: tuple[Preprocessing, ...] = ()
    alternatives: tuple[str, ...] = ()


class Family(ABC):
    """Base of the families of checkpoints. A family of its own is one file: a subclass, registered with :data:`FAMILIES`."""

    @abstractmethod
    def recognise(self, state: State) -> Architecture | None:
        """Network of a flat ``state`` (prefixes stripped, normaliser taken out); None for another family's.

        Raises :class:`CheckpointError` for a state that is this family's and is broken: blocks that are missing,
        shapes that do not fit one another.
        """

    def body(self, state: State, found: Architecture, settings: Mapping[str, Any]) -> State:
        """State of the network's body under the body's own names: what is neither the head nor unused."""
        left = set(found.unused)
        head = f"{found.head}."
        return {
            key: value for key, value in state.items() if key not in left and not (found.head and key.startswith(head))
        }

    def head(self, state: State, found: Architecture, settings: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
        """Weight ``(K, d)`` and bias ``(K,)`` of the last layer, as the writer's forward pass uses them.

        ``settings`` are those that were chosen among the ``variants``. A bias that the file does not have is 0; None for
        a feature extractor.
        """
        if not found.head:
            return None
        weight = state[f"{found.head}.weight"]
        return weight, state.get(f"{found.head}.bias", weight.new_zeros(len(weight)))


FAMILIES: Registry[Family] = Registry("family of checkpoints", group="robust_transfer.families")


def recognised(state: State) -> tuple[str, Architecture] | None:
    """Name of the first family that recognises the ``state``, and its network; None if no family does."""
    for entry in FAMILIES:
        if (found := entry.cls().recognise(state)) is not None:
            return entry.name, found
    return None
