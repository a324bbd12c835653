"""Blocks of any module from its tree of submodules, in the order in which it computes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from robust_transfer.modes import eval_mode

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def calls_of(body: nn.Module, size: int) -> list[str]:
    """Paths of submodules with computations of their own, in the order of their calls on an image.

    These are leaves, and modules with weights beside their children's. A module called twice is listed twice; one
    that is never called, as inside a fused kernel, is missing.
    """
    calls, handles = list[str](), list[torch.utils.hooks.RemovableHandle]()
    for path, part in body.named_modules(remove_duplicate=False):
        if path and (next(part.children(), None) is None or next(_own(part), None) is not None):
            handles.append(part.register_forward_pre_hook(lambda *_, path=path: calls.append(path)))
    device = next((tensor.device for tensor in (*body.parameters(), *body.buffers())), torch.device("cpu"))
    try:
        with eval_mode(body), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body(torch.zeros(2, 3, size, size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def blocks_of(body: nn.Module, calls: list[str]) -> list[list[str]]:
    """State names of a module in blocks, in the order of the ``calls`` (:func:`calls_of`).

    Each element of a list of layers is a block: the elements of an ``nn.Sequential``, and the repeated units of a
    stage; any other submodule is one block. Norms, and weights that a module holds directly (a class token), belong
    to the block before them, or to the first one.
    """
    groups = list[tuple[str | None, list[str]]]()
    for path, names in _groups(body, ""):
        if path is None and groups:
            groups[-1][1].extend(names)
        else:
            groups.append((path, names))
    if len(groups) > 1 and groups[0][0] is None:
        first = groups.pop(0)[1]
        groups[0][1][:0] = first
    at, order = 0, list[tuple[int, list[str]]]()
    for path, names in groups:
        prefix = f"{path}."
        at = next((i for i, call in enumerate(calls) if call == path or call.startswith(prefix)), at)
        order.append((at, names))
    return [names for _, names in sorted(order, key=lambda group: group[0])]


def _groups(module: nn.Module, prefix: str) -> Iterator[tuple[str | None, list[str]]]:
    """Paths of blocks with their state; None for norms and for weights held directly by a larger module."""
    own = [f"{prefix}{name}" for name, _ in _own(module)]
    if own:
        yield None, own
    for name, child in module._modules.items():
        if child is None or not (state := list(child.state_dict())):
            continue
        path = f"{prefix}{name}"
        if _is_trunk(child):
            yield from _groups(child, f"{path}.")
        else:
            yield None if is_norm(child) else path, [f"{path}.{inner}" for inner in state]


def _is_trunk(module: nn.Module) -> bool:
    """True for a sequence of blocks, False for a single block."""
    children = [child for child in module.children() if child.state_dict()]
    if isinstance(module, CONTAINERS):
        return bool(children)
    if len(children) == 1 and next(_own(module), None) is None:
        return _is_trunk(children[0])
    return any(_is_stage(child) for child in children)


def _is_stage(module: nn.Module) -> bool:
    """True for a list of at least two units of one kind, each with layers of its own."""
    if not isinstance(module, CONTAINERS):
        return False
    kinds = [type(child) for child in module.children() if len(list(child.children())) > 1]
    return any(kinds.count(kind) > 1 for kind in kinds)


def is_norm(module: nn.Module) -> bool:
    """True for batch, group, layer and instance norms, and for what gathers statistics as they do."""
    return isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm)) or "running_mean" in module._buffers


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """State that a module holds directly, beside its children's."""
    for name, value in (*module._parameters.items(), *module._buffers.items()):
        if value is not None and name not in module._non_persistent_buffers_set:
            yield name, value
