"""Average pooling of the last feature maps on a grid: the mean of each cell, in place of one mean of the whole map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robust_transfer.errors import NetworkError
from robust_transfer.modes import eval_mode

SETTING = "pool_grid"  # beside a network's own settings: the cells along a side, 1 where it is not given


def pool_on_grid(body: nn.Module, grid: int, input_size: int) -> tuple[int, int, int]:
    """Replace a headless network's global average pooling by one over ``grid`` x ``grid`` cells, in place.

    The network's features are then ``(B, C * grid * grid)`` in place of ``(B, C)``, each channel's cells side by side, row
    by row. No name of its state changes. Returns the shape of the maps that are pooled, ``(C, h, w)``. Raises
    :class:`NetworkError` where the features are no means over maps (as those of a vision transformer), or the maps have
    fewer pixels than the grid.
    """
    found = _last_pooling(body, input_size)
    if found is None:
        raise NetworkError("the features are no means over maps that a layer of the network takes: they have no grid")
    path, (channels, height, width) = found
    if min(height, width) < grid:
        raise NetworkError(f"the last maps have {height}x{width} pixels, too few for a grid of {grid}x{grid}")
    layer = nn.AdaptiveAvgPool2d(grid)
    body.set_submodule(path, layer)
    try:
        features = tuple(_run(body, input_size).shape)
    except (RuntimeError, ValueError, TypeError):
        features = ()
    if features != (1, channels * grid * grid):
        body.set_submodule(path, nn.AdaptiveAvgPool2d(1))
        raise NetworkError("the network computes on after its pooling: its features have no grid")
    return channels, height, width


def _last_pooling(body: nn.Module, input_size: int) -> tuple[str, tuple[int, int, int]] | None:
    """Path of the global average pooling that comes last, and the ``(C, h, w)`` of the maps it takes; None without one."""
    seen = list[tuple[str, tuple[int, int, int]]]()

    def watch(path: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            shape = inputs[0].shape
            seen.append((path, (shape[1], shape[2], shape[3])))

        return hook

    pools = [
        (path, module)
        for path, module in body.named_modules()
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))
    ]
    handles = [module.register_forward_hook(watch(path)) for path, module in pools]
    try:
        features = _run(body, input_size)
    finally:
        for handle in handles:
            handle.remove()
    return seen[-1] if seen and features.shape[1:] == (seen[-1][1][0],) else None


def _run(body: nn.Module, input_size: int) -> Tensor:
    with eval_mode(body), torch.no_grad():
        features: Tensor = body(torch.zeros(1, 3, input_size, input_size))
    return features
