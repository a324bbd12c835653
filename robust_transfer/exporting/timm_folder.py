"""Folders in timm's layout: ``config.json`` and ``model.safetensors``, which timm and transformers load by themselves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from robust_transfer import networks
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import as_dict
from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.networks.names import LIBRARIES
from robust_transfer.preprocessing import Preprocessing

WEIGHTS, CONFIG = "model.safetensors", "config.json"
INSTEAD = "export it to onnx or torch, which hold the network itself"


def refuse_unknown(model: Checkpoint) -> str:
    """Name of the network in timm. Raises :class:`ConfigError` for a network, head or normalisation that timm lacks.

    Our own networks are in timm only where this package has put them, so that a file of theirs in timm's layout would
    load nowhere else.
    """
    spec, how = model.card.network, model.preprocessing.normalisation
    if networks.HEAD_LAYER in spec.settings:
        raise ConfigError(f"timm does not have the network {spec.name!r}, which other code built: {INSTEAD}")
    if {networks.pool_grid.SETTING, networks.mirrored.SETTING} & spec.settings.keys():
        raise ConfigError(f"networks of timm do not pool on a grid, nor average over mirror images: {INSTEAD}")
    name = networks.canonical(spec.name)
    if name in networks.available() or name.startswith(tuple(library.PREFIX for library in LIBRARIES)):
        raise ConfigError(f"timm itself does not have the network {name!r}: {INSTEAD}")
    if not isinstance(model.classifier.head, nn.Linear):
        raise ConfigError(f"networks of timm have linear heads, and this one is a perceptron: {INSTEAD}")
    if how.per_image:
        raise ConfigError(f"timm has no normalisation of each image by itself: {INSTEAD}")
    return name


def pretrained_cfg(how: Preprocessing, class_names: tuple[str, ...]) -> dict[str, Any]:
    """timm's configuration of a network's evaluation."""
    size, channels = how.size, 3 // len(how.normalisation.mean)
    return {
        "input_size": [3, size, size],
        "interpolation": how.interpolation,
        "crop_pct": _crop_share(size, how.geometry.resized),
        "crop_mode": "center" if how.resize == "crop" else "squash",
        "mean": list(how.normalisation.mean) * channels,
        "std": list(how.normalisation.std) * channels,
        "num_classes": len(class_names),
    }


def _crop_share(size: int, short: int) -> float:
    """Share of which timm makes ``short`` again: it rounds ``size`` over it down."""
    share = size / short
    return share if math.floor(size / share) == short else size / (short + 0.5)


def weights(model: Checkpoint, name: str) -> dict[str, Tensor]:
    """State of timm's own network of that name, with the head under timm's name."""
    spec, head = model.card.network, model.classifier.head
    whole = networks.create(name, num_classes=spec.num_classes, input_size=spec.input_size, **spec.settings)
    where = (getattr(whole, "pretrained_cfg", None) or {}).get("classifier", "")
    wanted = whole.state_dict()
    state = {key: value.detach().cpu().contiguous() for key, value in model.classifier.body.state_dict().items()}
    for part, value in head.state_dict().items():
        key = f"{where}.{part}"
        if key not in wanted or wanted[key].numel() != value.numel():
            raise NetworkError(f"timm's {name!r} does not have its head at {where!r} in this form: {INSTEAD}")
        state[key] = value.detach().cpu().reshape(wanted[key].shape).contiguous()
    if apart := sorted(wanted.keys() ^ state.keys()):
        raise NetworkError(f"timm's {name!r} differs from this network in {apart[0]!r}: {INSTEAD}")
    return state


def write(model: Checkpoint, folder: Path, extra: dict[str, Any]) -> None:
    """Write both files. ``extra`` is added to timm's own fields."""
    name = refuse_unknown(model)
    spec, names = model.card.network, model.card.class_names
    settings = dict(spec.settings)
    if "img_size" not in settings and networks.takes_image_size(name):
        settings["img_size"] = spec.input_size
    config = {
        "architecture": name,
        "num_classes": spec.num_classes,
        "num_features": model.classifier.num_features,
        "model_args": as_dict(settings),
        "label_names": list(names),
        "pretrained_cfg": pretrained_cfg(model.preprocessing, names),
        **extra,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights(model, name), folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def runner(folder: Path) -> tuple[str, Callable[[list[Image.Image]], tuple[Tensor, Tensor]]]:
    """Name of the reader of the folder, and a function from RGB images to logits and probabilities, by timm alone."""
    import timm

    module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(module), is_training=False)

    def run(images: list[Image.Image]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logits = module(torch.stack([transform(image) for image in images]))
        return logits, logits.softmax(1)

    return f"timm {timm.__version__}, its transform included", run
