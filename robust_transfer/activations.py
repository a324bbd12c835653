"""Activations of a classifier's blocks, as a forward pass computes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from robust_transfer.classifier import Classifier


def block_modules(classifier: Classifier) -> dict[str, nn.Module]:
    """For every block below the head, in order, the largest module whose whole state belongs to it, by its path in the body."""
    states = {
        path: {f"{path}.{name}" for name in module.state_dict()} for path, module in classifier.named_modules() if path
    }
    found = dict[str, nn.Module]()
    for block in classifier.blocks()[:-1]:
        inside = [path for path, state in states.items() if state and state <= set(block)]
        if inside:
            path = max(inside, key=lambda path: (len(states[path]), -len(path)))
            found[path.removeprefix("body.")] = classifier.get_submodule(path)
    return found


@contextmanager
def captured(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Outputs of ``modules`` in the forward passes made inside the block, by name: those of the latest pass, with their graph.

    What a module returns that is no tensor is left out.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(_module: nn.Module, _given: object, out: object) -> None:
            if isinstance(out, Tensor):
                found[name] = out

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]  # type: ignore[arg-type]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def by_channel(maps: Tensor) -> Tensor:
    """Maps as ``(B, C, positions)``: channels are the second dimension of images and the last one of everything else."""
    if maps.dim() == 4:
        return maps.flatten(2)
    return maps.flatten(1, -2).transpose(1, 2) if maps.dim() == 3 else maps[..., None]
