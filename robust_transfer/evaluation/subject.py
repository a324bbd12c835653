"""What is evaluated: the model, the images that it reads, and the network that it came from."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from robust_transfer.attacks.knowledge import public_source
from robust_transfer.checkpoint import Checkpoint, weights_hash
from robust_transfer.classifier import Classifier
from robust_transfer.data import Split
from robust_transfer.data.class_map import ClassMap, in_order_of
from robust_transfer.errors import ConfigError, DataError


def module_of(model: Checkpoint | nn.Module) -> nn.Module:
    """The module that is attacked."""
    return model.classifier if isinstance(model, Checkpoint) else model


def at_input_size(module: nn.Module, split: Split) -> Split:
    """``split`` at the size that ``module`` reads; for a plain module at its own, if its images have one."""
    if isinstance(module, Classifier):
        return split.at_size(module.spec.input_size)
    if split.size is None:
        raise DataError("the images have different sizes: say at which one to evaluate, with split.at_size(...)")
    return split


def module_hash(module: nn.Module) -> str:
    """A classifier's own hash; for other modules one over the type's name and every tensor of the state."""
    if isinstance(module, Classifier):
        return weights_hash(module)
    digest = hashlib.sha256(type(module).__qualname__.encode())
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def in_classes_of(
    model: Checkpoint | nn.Module, split: Split, class_map: ClassMap | None = None
) -> tuple[Split, list[str]]:
    """``split`` with its labels in the order of the model's classes, and sentences on what was done for that.

    Refuses an empty split, and a model of other classes. A plain module has no names: its classes are numbered as the
    data's are.
    """
    if not len(split):
        raise DataError("the split is empty: there is nothing to evaluate on")
    module = module_of(model)
    if isinstance(module, Classifier) and module.num_classes != len(split.class_names):
        raise DataError(
            f"the model tells {module.num_classes} classes apart and the data has {len(split.class_names)}: "
            "transfer it to this data first"
        )
    if isinstance(model, Checkpoint):
        return in_order_of(model.card.class_names, split, class_map)
    if class_map is not None:
        raise ConfigError("a class map needs a checkpoint, whose card has names: a plain module's classes have none")
    return split, []


def find_source(model: Checkpoint | nn.Module, given: Checkpoint | None) -> Checkpoint | None:
    """What an attacker is taken to have of the network that ``model`` came from."""
    found = given or (public_source(model) if isinstance(model, Checkpoint) else None)
    module = module_of(model)
    if given is not None and isinstance(module, Classifier) and given.input_size != module.spec.input_size:
        raise ConfigError(
            f"the source reads images of {given.input_size} pixels and the model of {module.spec.input_size}: "
            "it is not what the model was transferred from"
        )
    return found
