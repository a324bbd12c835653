"""Checkpoint = Classifier + Card; the run folder they live in, which is also the layout of a Hub repository.

Weights are safetensors, everything else JSON; loading is strict, checks a hash and never runs code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from robust_transfer.classifier import Classifier, NetworkSpec, Normalisation
from robust_transfer.config import as_dict, build, config
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.run import write_atomically, write_json, write_text

WEIGHTS, CARD = "model.safetensors", "card.json"
SCHEMA = 1


@config
class Card:
    """Where a set of weights comes from. ``threat`` is what it was trained for, or inherits (None: natural training).

    ``cost`` counts forward-equivalent image passes, tuning included; ``adversarial_examples`` those crafted on the way.
    """

    network: NetworkSpec
    class_names: tuple[str, ...]
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    threat: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] | None = None
    criterion: str = "last epoch"
    metrics: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    cost: float = 0.0
    adversarial_examples: int = 0
    seconds: float = 0.0
    seed: int = 0
    precision: str = "float32"
    command: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    weights_hash: str = ""
    weights_dtype: str = "float32"
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if len(self.class_names) != self.network.num_classes:
            raise ConfigError(f"{len(self.class_names)} class names for {self.network.num_classes} classes")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A classifier with its card: what strategies take and return."""

    classifier: Classifier
    card: Card

    @property
    def input_size(self) -> int:
        """The side of the images it reads, in pixels."""
        return self.card.network.input_size

    @property
    def hash(self) -> str:
        """The hash of the weights as they are now (16 hex digits), independent of their precision on disk."""
        return weights_hash(self.classifier)

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> Checkpoint:
        """Write weights (float32 or float16), card, configuration and README; returns the checkpoint as stored."""
        state = {k: v.detach().cpu().contiguous() for k, v in self.classifier.state_dict().items()}
        stored = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
        if any(not bool(v.isfinite().all()) for v in stored.values() if v.is_floating_point()):
            raise CheckpointError(f"the weights hold values that are not finite in {dtype}: nothing was saved")
        data = save(stored)
        card = replace(
            self.card,
            weights_hash=hashlib.sha256(data).hexdigest(),
            weights_dtype=str(dtype).removeprefix("torch."),
        )
        write_atomically(folder / WEIGHTS, lambda path: _write(path, data))
        write_json(folder / CARD, as_dict(card))
        write_text(folder / "config.yaml", yaml.safe_dump({"method": card.method, "settings": card.settings, "seed": card.seed}))
        write_text(folder / "README.md", _readme(card))
        return load_checkpoint(folder)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a run folder. Missing, foreign, damaged or mismatched files raise :class:`CheckpointError`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}: give a run folder with {WEIGHTS} and {CARD}, or 'bundled'")
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no finished run: {name} is missing")
    card = read_card(folder / CARD)
    data = (folder / WEIGHTS).read_bytes()
    if card.weights_hash and hashlib.sha256(data).hexdigest() != card.weights_hash:
        raise CheckpointError(f"{folder / WEIGHTS} is not the file that its card describes (the hash differs): get both again")
    return Checkpoint(_restore(card, _tensors(folder / WEIGHTS, data)), card)


def read_card(path: Path) -> Card:
    """A card from its JSON file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.get("schema") != SCHEMA:
            raise CheckpointError(f"{path} has schema {raw.get('schema')!r}; this version reads {SCHEMA}")
        network = dict(raw.pop("network"))
        spec = build(NetworkSpec, {**network, "normalisation": build(Normalisation, network["normalisation"], "card")}, "card")
        return build(Card, {**raw, "network": spec}, "card")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a card of this project ({type(error).__name__}: {error})") from None
    except ConfigError as error:
        raise CheckpointError(f"{path} is not a card of this project: {error}") from None


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return load(data)
    except SafetensorError:
        kind = "a pickle, which can run code; it is not loaded" if data[:2] in (b"PK", b"\x80\x02") else "damaged"
        raise CheckpointError(f"{path} is not a safetensors file ({kind}): store the weights as safetensors") from None


def _restore(card: Card, tensors: dict[str, Tensor]) -> Classifier:
    classifier = Classifier.build(card.network)
    wanted = classifier.state_dict()
    for name in sorted({*wanted, *tensors}):
        if name not in tensors or name not in wanted:
            where = "lacks" if name not in tensors else "has an extra"
            raise CheckpointError(f"the weights are of another network: the file {where} {name!r} for a {card.network.name!r}")
        if tensors[name].shape != wanted[name].shape:
            raise CheckpointError(
                f"the weights are of another network: {name!r} is {tuple(tensors[name].shape)}, "
                f"a {card.network.name!r} has {tuple(wanted[name].shape)}"
            )
    classifier.load_state_dict({k: v.to(wanted[k].dtype) for k, v in tensors.items()}, strict=True)
    return classifier.eval()


def weights_hash(classifier: Classifier) -> str:
    """SHA-256 over names, shapes and float32 values (16 hex digits)."""
    digest = hashlib.sha256()
    for name, value in sorted(classifier.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _readme(card: Card) -> str:
    rows = "\n".join(f"| {k} | {v} |" for k, v in card.metrics.items() if not isinstance(v, (dict, list)))
    table = f"\n| figure | value |\n|---|---|\n{rows}\n" if rows else ""
    return (
        f"---\nlibrary_name: robust-transfer\ntags: [adversarial-robustness, image-classification]\n---\n"
        f"# {card.network.name}, {card.method}\n\n"
        f"{card.network.num_classes} classes, {card.network.input_size}x{card.network.input_size} pixels, "
        f"threat {card.threat or 'none'}, data {card.data.get('name', 'unknown')}. The whole record is in `card.json`.\n{table}\n"
        "```python\nimport robust_transfer as rt\n\nsource = rt.load_source('path/to/this/folder')\n```\n"
    )
