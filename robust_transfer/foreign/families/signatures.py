"""Signatures of networks: index of timm's and torchvision's networks by the names and shapes of their states."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from torch import Tensor, nn

COUNTER = ".num_batches_tracked"
# Attributes of modules that do not affect their computation, or follow from the size of the images.
SILENT = {
    "training",
    "img_size",
    "grid_size",
    "num_patches",
    "num_classes",
    "feat_size",
    "input_resolution",
    "drop_rate",
}
SILENT |= {"grad_checkpointing", "dynamic_img_size", "dynamic_img_pad", "strict_img_size", "drop_prob", "fused_attn"}
SILENT |= {"num_features", "head_hidden_size", "inplace", "output_size", "feature_info", "scale_by_keep"}
PASSIVE = ("Identity", "Dropout", "DropPath", "PatchDropout")  # in evaluation mode they do nothing


@dataclass(frozen=True)
class Indexed:
    """Network in the index: signature of its state without the ``head``, and a hash of its modules' attributes."""

    name: str
    signature: str
    head: str
    arithmetic: str


def signature(state: Mapping[str, Tensor], without: str = "") -> str:
    """Hash of the names and shapes of a state without the layer ``without``; position embeddings count as any size."""
    prefix = f"{without}."
    rows = sorted(
        f"{key} {shape_of(key, value)}"
        for key, value in state.items()
        if not key.endswith(COUNTER) and not (without and key.startswith(prefix))
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


def shape_of(key: str, value: Tensor) -> tuple[int, ...]:
    """Shape, without dimensions that depend on the image size."""
    return tuple(value.shape[-1:]) if is_position(key) else tuple(value.shape)


def is_position(key: str) -> bool:
    """True if a tensor's size depends on the image size."""
    return key.rpartition(".")[2] in ("pos_embed", "pos_embedding", "positional_embedding")


def arithmetic(module: nn.Module) -> str:
    """Hash of the kinds and plain attributes of all modules: tells apart networks of one signature."""
    rows = list[str]()
    for path, part in module.named_modules():
        kind = type(part).__name__
        if kind.startswith(PASSIVE):
            continue
        plain = {key: value for key, value in vars(part).items() if _plain(value) and key not in SILENT}
        rows.append(f"{path} {kind} {part.extra_repr() if not list(part.children()) else ''} {sorted(plain.items())}")
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:8]


def _plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(isinstance(each, (bool, int, float, str)) for each in value)
    return isinstance(value, (bool, int, float, str))


@cache
def index() -> tuple[Indexed, ...]:
    """Networks of timm and torchvision as they were when the index was written (``scripts/index_networks.py``)."""
    stored = json.loads((files(__package__) / "index.json").read_text(encoding="utf-8"))
    return tuple(Indexed(name, *row) for name, row in stored["networks"].items())


def heads(entries: Iterable[Indexed]) -> list[str]:
    """Names of the last layers of networks in the index."""
    return sorted({entry.head for entry in entries} - {""})
