"""Contents of a foreign file: tensors, numbers and strings, and an inert stand-in for everything else."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Inert:
    """Stand-in for an object that was not constructed.

    ``name``: the file's name of its class, or of the function that makes it.

    ``state``: its plain attributes and items, if any: the epochs of an ``argparse.Namespace``, the parameters of a
    module that was stored whole.
    """

    name: str
    state: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Inert({self.name!r}, state of {len(self.state)})" if self.state else f"Inert({self.name!r})"


@dataclass(frozen=True)
class Contents:
    """Contents of a file, read without executing any of it.

    ``tree``: nested dict, list and tuple of Tensor, int, float, str, bool and None, with :class:`Inert` for anything
    else. Tensors are read-write views of the file if possible: changing them does not change the file. ``format``:
    "safetensors", "PyTorch zip", "PyTorch legacy", "NumPy archive" or "pickle". ``refused``: names in the file that
    were not imported, each once, sorted. ``metadata``: that of safetensors.
    """

    tree: Any
    format: str
    refused: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    mappings: tuple[mmap.mmap, ...] = field(default=(), repr=False, compare=False)

    def release(self) -> None:
        """Release the memory of views into the file; they are read again on access.

        Values written into the tensors of ``tree`` may be lost: call it between copies of many large ones.
        """
        for mapping in self.mappings:
            mapping.madvise(mmap.MADV_DONTNEED)


def module_state(found: Any) -> dict[str, Tensor] | None:
    """State dict of a module stored whole (``torch.save(model)``) and not constructed; None for anything else.

    Recognised by its attributes: ``_parameters``, ``_buffers``, ``_modules``, ``_non_persistent_buffers_set``.
    """
    if not isinstance(found, Inert) or not isinstance(found.state.get("_parameters"), dict):
        return None
    state, parts = dict[str, Tensor](), found.state
    hidden = parts.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        own = parts.get(kind)
        for name, value in own.items() if isinstance(own, dict) else ():
            if isinstance(value, Tensor) and not (kind == "_buffers" and name in hidden):
                state[str(name)] = value
    modules = parts.get("_modules")
    for name, module in modules.items() if isinstance(modules, dict) else ():
        for key, value in (module_state(module) or {}).items():
            state[f"{name}.{key}"] = value
    return state
