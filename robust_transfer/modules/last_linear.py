"""Last linear layer of any module: found by running it, proved to compute the logits, and removed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robust_transfer.errors import NetworkError
from robust_transfer.modes import eval_mode
from robust_transfer.networks.builders import take_off

SCALES = (1.0, 1e3)  # of the logits in two trials: clipping and soft caps show at the larger one
TOLERANCE = 1e-4  # of the largest logit: rounding, where pooling and the linear layer change places


def unwrapped(module: nn.Module) -> nn.Module:
    """Module inside the wrappers of several devices and of ``torch.compile``."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif isinstance(inner := module._modules.get("_orig_mod"), nn.Module):
            module = inner
        else:
            return module


def split(module: nn.Module, size: int, layer: str | None = None) -> tuple[nn.Module, nn.Linear, str]:
    """Body (a copy of ``module`` without its last linear layer), that layer as a head, and its dotted name.

    The module is run on two images ``(2, 3, size, size)``, in evaluation mode and, to see its outputs, in training mode.
    The layer is the one called ``layer``, else the last linear layer that it runs; a convolution of 1x1 pixels is one where
    pooling follows it and nothing else. Raises :class:`NetworkError` where the logits are not that layer's outputs on
    the body's, for whatever weights.
    """
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise NetworkError(
            f"{name} is compiled to TorchScript, whose layers cannot be exchanged: give the module itself"
        )
    try:
        body = copy.deepcopy(unwrapped(module)).float().requires_grad_(True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise NetworkError(
            f"{name} cannot be copied ({_first(error)}): give it as it was built, before hooks"
        ) from None
    tensors = [*body.parameters(), *body.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        layer = _find(body, x, layer, name)
        given = body.get_submodule(layer)
        head = _linear(given, layer, name)
        wanted = _trials(body, given, x, name)
        take_off(body, layer)
        _prove(body, given, x, wanted, layer, name)
    return body, head, layer


def _find(body: nn.Module, x: Tensor, layer: str | None, name: str) -> str:
    """Dotted name of the layer: called once, under one name, with weights of its own."""
    paths = {path: part for path, part in body.named_modules(remove_duplicate=False) if _may_be_last(part)}
    if layer is not None and layer not in paths:
        known = dict(body.named_modules())
        what = f"{layer!r} is {type(known[layer]).__name__}, no linear layer" if layer in known else f"has no {layer!r}"
        raise NetworkError(f"{name} {what}: give the dotted name of its last linear layer, such as {_example(paths)}")
    called = list[nn.Module]()
    handles = [part.register_forward_hook(lambda part, *_: called.append(part)) for part in {*paths.values()}]
    try:
        out = _run(body, x, name)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(out, Tensor):
        raise NetworkError(f"{name} gives {_described(out)}; a network with one output, its logits, is needed")
    if out.dim() != 2 or len(out) != len(x):
        raise NetworkError(f"{name} gives {tuple(out.shape)} for {len(x)} images, not one row of logits for each")
    last = paths[layer] if layer is not None else (called[-1] if called else None)
    if last is None or last not in called:
        what = "no linear layer that it calls as a module" if last is None else f"{layer!r}, but does not call it"
        raise NetworkError(f"{name} has {what}: its last layer must be an nn.Linear that its forward calls")
    names: list[str] = [path for path, part in paths.items() if part is last]
    own = {id(parameter) for parameter in last.parameters(recurse=False)}
    elsewhere = [
        path
        for path, parameter in body.named_parameters(remove_duplicate=False)
        if id(parameter) in own and path.rpartition(".")[0] not in names
    ]
    if called.count(last) > 1 or len(names) > 1 or elsewhere:
        raise NetworkError(
            f"{name} uses its last linear layer {names[0]!r} more than once, or its weights for something else: "
            "it cannot be exchanged for another head"
        )
    return names[0]


def _may_be_last(part: nn.Module) -> bool:
    if isinstance(part, nn.Linear):
        return True
    plain = isinstance(part, nn.Conv2d) and part.kernel_size == part.stride == (1, 1) and part.groups == 1
    return plain and part.padding in ((0, 0), "valid", "same")


def _linear(given: nn.Module, layer: str, name: str) -> nn.Linear:
    """Layer as an ``nn.Linear`` with a bias."""
    weight, bias = getattr(given, "weight", None), getattr(given, "bias", None)
    if not {key for key, _ in given.named_parameters()} <= {"weight", "bias"} or not isinstance(weight, nn.Parameter):
        raise NetworkError(
            f"the weights of {name}'s last linear layer {layer!r} are computed from others (weight_norm, LoRA or the like): "
            "make them plain first (torch.nn.utils.parametrize.remove_parametrizations, merge_and_unload)"
        )
    head = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
    with torch.no_grad():
        head.weight.copy_(weight.flatten(1))
        head.bias.copy_(bias) if bias is not None else head.bias.zero_()
    return head


def _trials(body: nn.Module, given: Any, x: Tensor, name: str) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Logits with weights and biases redrawn, of both signs: they reveal a function after the layer."""
    before = {key: parameter.detach().clone() for key, parameter in given.named_parameters()}
    generator, trials = torch.Generator().manual_seed(1), list[tuple[Tensor, Tensor, Tensor]]()
    with torch.no_grad():
        for scale in SCALES:
            for parameter in given.parameters():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator).to(parameter.device))
            bias = given.bias.clone() if given.bias is not None else x.new_zeros(len(given.weight))
            trials.append((_run(body, x, name), given.weight.flatten(1).clone(), bias))
        for key, parameter in given.named_parameters():
            parameter.copy_(before[key])
    return trials


def _prove(
    body: nn.Module, given: nn.Module, x: Tensor, trials: list[tuple[Tensor, Tensor, Tensor]], layer: str, name: str
) -> None:
    """Raise :class:`NetworkError` unless the logits are the layer's outputs on the body's outputs."""
    kind = "convolution" if isinstance(given, nn.Conv2d) else "linear layer"
    after = (
        f"{name} computes further after its last {kind} {layer!r} (softmax, scaling, ReLU or the like): "
        "give a module that ends with its linear layer, or name another layer"
    )
    try:
        features = _run(body, x, name)
        again = _run(body, x, name)
        trained = _run(body, x, name, training=True)
    except NetworkError:
        raise NetworkError(after) from None
    if not isinstance(trained, Tensor):
        raise NetworkError(
            f"{name} gives {_described(trained)} in training mode: build it without auxiliary heads (aux_logits=False)"
        )
    if not isinstance(features, Tensor) or features.shape != (len(x), trials[0][1].shape[1]):
        raise NetworkError(after)
    if not torch.equal(features, again):
        raise NetworkError(
            f"{name} gives other features every time, in evaluation mode too: its noise must be off there"
        )
    for wanted, weight, bias in trials:
        error = (features @ weight.T + bias - wanted).abs().max()
        if not bool(error <= TOLERANCE * wanted.abs().max()):
            raise NetworkError(after)


def _run(module: nn.Module, x: Tensor, name: str, *, training: bool = False) -> Any:
    """Output of a module; statistics that training mode changes are restored."""
    with torch.no_grad(), warnings.catch_warnings(), _in_training(module) if training else eval_mode(module):
        warnings.simplefilter("ignore")
        try:
            return module(x.clone())
        except Exception as error:  # third-party code may raise anything
            size = f"{x.shape[2]}x{x.shape[3]}"
            raise NetworkError(f"{name} cannot read {size} images of 3 channels: {_first(error)}") from error


@contextmanager
def _in_training(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
    module.train()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        for buffer, value in kept:
            buffer.copy_(value)


def _described(out: Any) -> str:
    return f"{len(out)} outputs" if isinstance(out, (tuple, list, dict)) else f"an output of type {type(out).__name__}"


def _example(paths: dict[str, nn.Module]) -> str:
    return repr(list(paths)[-1]) if paths else "'fc'"


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
