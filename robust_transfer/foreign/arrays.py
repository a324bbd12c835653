"""Layers as lists of arrays, ``{layer: [weight, bias]}``: the form of Keras's ``get_weights`` and of Caffe's converters.

Such weights come from other libraries: a kernel may be height x width x in x out, as in TensorFlow and Keras, rather
than out x in x height x width, as in PyTorch and Caffe. The biases' lengths decide which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from robust_transfer.errors import CheckpointError

LAYER = ".weight", ".bias"
KNOWN = "of lists of arrays only [weight] and [weight, bias] are read"
MAX_KERNEL = 11  # pixels: no kernel is larger
Layers = Mapping[str, Sequence[Tensor]]


def holds_lists(tree: Any) -> bool:
    """True if a dictionary contains lists of arrays."""
    return isinstance(tree, Mapping) and any(map(_is_list, tree.values()))


def layers_of(tree: Mapping[Any, Any]) -> Layers:
    """Layers of a dictionary of lists of arrays; empty if one of the lists is not a layer."""
    layers = {str(key): value for key, value in tree.items() if _is_list(value)}
    return layers if all(map(_is_layer, layers.values())) else {}


def state_of(layers: Layers) -> tuple[dict[str, Tensor], str]:
    """Weights by name, in PyTorch's order of dimensions, and a sentence on the conversion.

    Raises :class:`CheckpointError` where that order cannot be determined, and where a dense layer reads a map of
    pixels: the order of its inputs differs between libraries.
    """
    turned = _out_is_last(layers)
    state = {
        f"{name}{kind}": _turned(array) if turned and array.dim() > 1 else array
        for name, arrays in layers.items()
        for kind, array in zip(LAYER, arrays, strict=False)
    }
    if turned:
        _refuse_flattened(state)
    order = "height x width x in x out, turned to out x in x height x width" if turned else "out x in x height x width"
    return state, f"{len(layers)} layers are lists of arrays, [weight, bias]: {order}"


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(each, Tensor) for each in value)


def _is_layer(arrays: Sequence[Tensor]) -> bool:
    first, *rest = arrays
    return len(rest) < 2 and first.dim() in (2, 4) and all(bias.dim() == 1 for bias in rest)


def _turned(weight: Tensor) -> Tensor:
    return (weight.permute(3, 2, 0, 1) if weight.dim() == 4 else weight.T).contiguous()


def _out_is_last(layers: Layers) -> bool:
    votes = {name: _vote(arrays) for name, arrays in layers.items()}
    if (odd := next((name for name, vote in votes.items() if vote == set()), None)) is not None:
        weight, bias = (tuple(array.shape) for array in layers[odd])
        raise CheckpointError(f"{odd!r} has a weight {weight} and a bias {bias}: they do not belong together")
    last, first = (next((name for name, vote in votes.items() if vote == {which}), None) for which in (True, False))
    if last is not None and first is not None:
        raise CheckpointError(
            f"in {last!r} the outputs are the last dimension of the weight, in {first!r} the first: store both in one order"
        )
    if last is None and first is None:
        raise CheckpointError(
            "the lists of arrays do not tell whether weights are out x in x height x width or height x width x in x out: "
            "store them under PyTorch's names and in its order"
        )
    return last is not None


def _vote(arrays: Sequence[Tensor]) -> set[bool]:
    """Orders that a layer allows: True for outputs as the last dimension, False as the first."""
    shape = arrays[0].shape
    if len(arrays) == 2 and shape[0] != shape[-1]:
        return {last for last, outs in ((True, shape[-1]), (False, shape[0])) if outs == len(arrays[1])}
    if len(shape) == 4:  # kernels are small squares
        ends = ((True, shape[:2], shape[2:]), (False, shape[2:], shape[:2]))
        first_kernels = {last for last, kernel, rest in ends if kernel[0] == kernel[1] <= MAX_KERNEL < max(rest)}
        return first_kernels or {True, False}
    return {True, False}


def _refuse_flattened(state: Mapping[str, Tensor]) -> None:
    outs = {len(weight) for name, weight in state.items() if name.endswith(LAYER[0])}
    for name, weight in state.items():
        if weight.dim() == 2 and name.endswith(LAYER[0]) and len(outs) > 1 and weight.shape[1] not in outs:
            raise CheckpointError(
                f"{name.removesuffix(LAYER[0])!r} reads {weight.shape[1]} inputs, as many as no layer puts out: likely a map "
                "of pixels, whose order is another one in PyTorch; convert the file with the library that it is of"
            )
