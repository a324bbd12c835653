"""torchvision's classification networks without their last linear layer, by names such as ``torchvision/vgg16_bn``."""

from __future__ import annotations

import warnings
from types import MethodType
from typing import Any

from torch import nn

from robust_transfer.errors import NetworkError
from robust_transfer.networks.builders import take_off
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.registry import unknown

PREFIX = "torchvision/"
NOT_SETTINGS = {"weights", "pretrained", "progress", "num_classes"}
AUXILIARY = ("googlenet", "inception_v3")  # by default they return several logits in training mode


def canonical(name: str) -> str:
    """torchvision's spelling of a name after the prefix, in any case. Raises :class:`NetworkError` for an unknown one."""
    plain = name.lower().removeprefix(PREFIX).replace("-", "_")
    if plain not in (known := names()):
        raise NetworkError(unknown("network of torchvision", plain, known))
    return f"{PREFIX}{plain}"


def names() -> list[str]:
    """Names of torchvision's classification networks, without the prefix."""
    import torchvision

    return [str(name) for name in torchvision.models.list_models(module=torchvision.models)]


def create(name: str, input_size: int, **settings: Any) -> nn.Module:
    """Network from ``(B, 3, H, W)`` to the features ``(B, d)`` that its last linear layer reads.

    SqueezeNets have none: ReLU follows their last convolution. Their features are the scores ``(B, num_outputs)``
    of as many classes as they were trained with, 1000 unless ``num_outputs`` says another number.
    """
    module = whole(name, input_size, **settings)
    if (head := head_of(module)) != "":
        take_off(module, head)
    if name.removeprefix(PREFIX).startswith("mnasnet"):  # its loading wants a version, which plain tensors do not have
        object.__setattr__(module, "_load_from_state_dict", MethodType(nn.Module._load_from_state_dict, module))
    return module


def whole(name: str, input_size: int, classes: int | None = None, **settings: Any) -> nn.Module:
    """Network with its head, of 1000 ``classes`` by default; see :func:`create`."""
    import torchvision

    plain = name.removeprefix(PREFIX)
    if refused := sorted(NOT_SETTINGS & settings.keys()):
        raise NetworkError(f"{refused[0]!r} is no setting of the network {name!r}: weights come with a checkpoint")
    if plain.startswith("vit_"):
        settings = {"image_size": input_size, **settings}
    elif plain.startswith("maxvit"):
        settings = {"input_size": (input_size, input_size), **settings}
    elif plain in AUXILIARY:
        settings = {"aux_logits": False, "init_weights": False, **settings}
    elif plain.startswith("squeezenet"):
        classes = settings.pop("num_outputs", classes)
    if classes is not None:
        settings["num_classes"] = classes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on ways of initialising, which weights of a file replace
        module: nn.Module = torchvision.models.get_model(plain, weights=None, **settings)
    return module


def preprocessing(name: str) -> Preprocessing:
    """Evaluation preprocessing of torchvision's first weights for a network."""
    import torchvision

    first = next(iter(torchvision.models.get_model_weights(name.removeprefix(PREFIX))))
    return Preprocessing.from_torchvision(first.transforms())


def head_of(module: nn.Module) -> str:
    """Dotted name of the last linear layer, which in all of torchvision's networks is the head; "" in SqueezeNets."""
    paths: list[str] = [path for path, part in module.named_modules() if isinstance(part, nn.Linear)]
    return paths[-1] if paths else ""
