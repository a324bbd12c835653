"""Checkpoint = Classifier + Card; the run folder they live in, which is also the layout of a Hub repository.

Weights are safetensors, everything else JSON; loading is strict, checks a hash and never runs code.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import BeforeValidator
from torch import Tensor, nn

from robust_transfer import networks
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.config import as_dict, build, config, difference
from robust_transfer.cost import Cost
from robust_transfer.errors import CheckpointError, ConfigError, DataError, NetworkError
from robust_transfer.files import all_or_none, expanded, write_atomically, write_bytes, write_json, write_text
from robust_transfer.preprocessing import Normalisation, Preprocessing
from robust_transfer.provenance import Mixture, Provenance
from robust_transfer.run import Run
from robust_transfer.shown import in_markdown
from robust_transfer.texts import read_json
from robust_transfer.threat import Threat
from robust_transfer.trained_on import FINGERPRINTS, TrainedOn, read_trained_on
from robust_transfer.undrawn import undrawn
from robust_transfer.weights_file import DamagedError, Header, WeightsFile, raw_bytes, write_weights

WEIGHTS, CARD = "model.safetensors", "card.json"
SCHEMA = 1


COSTS = ("adversarial_examples", "seconds")  # fields of a cost that stand in a card's JSON by themselves
HEAD = "head"  # of an origin: "none" for a feature extractor
THREAT_PIXELS = "threat_pixels"  # in a card's JSON, for people: what the network's preprocessing says


def _threat(given: Any) -> Any:
    return Threat.parse(given) if isinstance(given, str) else given


@config
class Card:
    """Record of a set of weights. ``threat``: the one it was trained for or inherits (None: natural training), also as text.

    ``cost`` includes tuning. ``fingerprints``: the hash of the file of training fingerprints, and its number of
    images. ``origin``: for imported weights, their address, how the file was read, and the evidence for that reading.
    """

    network: NetworkSpec
    class_names: tuple[str, ...]
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    threat: Annotated[Threat | None, BeforeValidator(_threat)] = None
    data: dict[str, Any] = field(default_factory=dict)
    source: Provenance | Mixture | None = None
    criterion: str = "last epoch"
    metrics: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()
    cost: Cost = Cost()
    seed: int = 0
    precision: str = "float32"
    command: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    weights_hash: str = ""
    weights_dtype: str = "float32"
    fingerprints: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if len(self.class_names) != self.network.num_classes:
            raise ConfigError(f"{len(self.class_names)} class names for {self.network.num_classes} classes")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types: the threat as text, with its pixel scale, and the cost beside the other fields.

        The passes of the cost are called ``cost``.
        """
        plain = {f.name: as_dict(getattr(self, f.name)) for f in fields(self)}
        cost = plain.pop("cost")
        told = {THREAT_PIXELS: self.network.preprocessing.threat_pixels}
        return {**plain, **told, "cost": cost["passes"], **{name: cost[name] for name in COSTS}}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Classifier with its card: what strategies take and return. ``trained_on``: None where no fingerprints were kept."""

    classifier: Classifier
    card: Card
    trained_on: TrainedOn | None = None

    @property
    def input_size(self) -> int:
        """Side of the network's input images, in pixels."""
        return self.card.network.input_size

    @property
    def preprocessing(self) -> Preprocessing:
        """Preparation of the images that the network reads."""
        return self.card.network.preprocessing

    @property
    def headless(self) -> bool:
        """True for an imported feature extractor: its head is 0, and its logits mean nothing."""
        return bool(self.card.origin.get(HEAD) == "none")

    @property
    def hash(self) -> str:
        """Hash of the weights in memory (16 hex digits), independent of their precision on disk."""
        return weights_hash(self.classifier)

    @property
    def stored_dtype(self) -> torch.dtype:
        """Precision that its weights are stored in."""
        found: torch.dtype = getattr(torch, self.card.weights_dtype)
        return found

    @property
    def provenance(self) -> Provenance:
        """Provenance for the card of a network made from this one."""
        card = self.card
        return Provenance(method=card.method, data=card.data.get("name"), weights=self.hash, source=card.source)

    def refuse_headless(self) -> None:
        """Raise :class:`DataError` for a feature extractor, which can only be transferred."""
        if self.headless:
            raise DataError(
                "the model is a feature extractor without a head, so it tells no classes apart: transfer it to this data "
                "first (robust-transfer transfer --strategy linear-probe)"
            )

    def refuse_unsavable(self) -> None:
        """Raise :class:`CheckpointError` for a network that could not be built again when loaded."""
        spec = self.card.network
        for name, settings in networks.pair.parts_of(spec.name, spec.settings):
            if networks.HEAD_LAYER not in settings or networks.builder(name) is not None:
                continue
            raise CheckpointError(
                f"the network {name!r} cannot be saved: nothing is registered that would build it when it is loaded; "
                "decorate the function that makes the module by @register_builder('a-name') and make it by that function"
            )

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32) -> Checkpoint:
        """Write weights (float32 or float16), card, configuration and README; returns the checkpoint as stored.

        Every file is written whole or not at all; weights without their own card are refused when loaded.
        """
        if dtype not in (torch.float32, torch.float16):
            raise ConfigError(f"weights are stored as torch.float32 or torch.float16, not {dtype}")
        self.refuse_unsavable()
        folder = Path(folder)
        state = self.classifier.state_dict()
        # one at a time, as everywhere here: a copy of all weights may be more than there is room for
        if not all(_finite(v.to(dtype)) for v in state.values() if v.is_floating_point()):
            raise CheckpointError(f"the weights hold values that are not finite in {dtype}: nothing was saved")
        seen = self.trained_on
        prints = seen.to_bytes() if seen is not None else None
        hashes = list[str]()
        with all_or_none(*(folder / name for name in (WEIGHTS, FINGERPRINTS, CARD, "config.yaml", "README.md"))):
            write_atomically(folder / WEIGHTS, lambda path: hashes.append(write_weights(path, state, dtype)))
            card = replace(
                self.card,
                fingerprints=seen.record(prints) if seen is not None and prints is not None else {},
                weights_hash=hashes[-1],
                weights_dtype=str(dtype).removeprefix("torch."),
            )
            if prints is not None:
                write_bytes(folder / FINGERPRINTS, prints)
            recipe = {"method": card.method, "settings": as_dict(card.settings), "seed": card.seed}
            write_text(folder / "config.yaml", yaml.safe_dump(recipe, sort_keys=False))
            write_text(folder / "README.md", readme(card))
            write_json(folder / CARD, as_dict(card))  # last: a folder with weights and a card is a finished run
        return load_checkpoint(folder)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a run folder. Missing, foreign, damaged or mismatched files raise :class:`CheckpointError`."""
    folder = expanded(folder)
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}: give a run folder with {WEIGHTS} and {CARD}, or 'bundled'")
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no finished run: {name} is missing")
    card = read_card(folder / CARD)
    path = folder / WEIGHTS
    try:
        with WeightsFile(path) as file:
            _refuse_foreign(path, file.beginning)
            classifier, problem = None, CheckpointError()
            try:
                classifier = _restore(card, file)
            except DamagedError as error:
                problem = CheckpointError(f"{path} is damaged ({error}): get it again")
            except (CheckpointError, NetworkError) as error:
                problem = CheckpointError(f"{folder}: {error}")
            if file.digest() != card.weights_hash:  # before all else: the card may be of another network
                raise CheckpointError(
                    f"{path} is not the file that its card describes (the hash differs): get both again"
                )
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    if classifier is None:
        raise problem
    return Checkpoint(classifier, card, _trained_on(folder, card))


def _trained_on(folder: Path, card: Card) -> TrainedOn | None:
    """Fingerprints beside the card, if it records any."""
    if not card.fingerprints:
        return None
    path = folder / FINGERPRINTS
    try:
        return read_trained_on(path.read_bytes(), card.fingerprints, str(path))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}; get the folder again") from None


def finished(run: Run, wanted: Mapping[str, Any]) -> Checkpoint | None:
    """Checkpoint of a finished run in ``run.out``, if ``run.resume`` is set; else None.

    ``wanted`` holds fields of the card that must be the same ("method", "settings", "seed" ...; "data" is the hash of
    the training split); otherwise :class:`CheckpointError` names the first that differs.
    """
    if run.out is None or not run.resume or not (run.out / CARD).is_file() or not (run.out / WEIGHTS).is_file():
        return None
    card, asked = read_card(run.out / CARD), as_dict(wanted)
    saved = {**as_dict(card), "data": card.data.get("hash")}
    if found := difference({key: saved.get(key) for key in asked}, asked):
        raise CheckpointError(not_the_same(run.out, *found))
    return load_checkpoint(run.out)


def not_the_same(folder: Path, what: str, saved: Any, wanted: Any) -> str:
    """Error message that refuses to resume the run in ``folder``."""
    return (
        f"cannot resume {folder}: {what} was {saved!r} and is now {wanted!r}; "
        "give the settings of the earlier run, or --overwrite, or another folder"
    )


def read_card(path: Path) -> Card:
    """Card from its JSON file. Raises :class:`CheckpointError`."""
    try:
        raw = read_json(path)
        if raw.get("schema") != SCHEMA:
            newer = isinstance(raw.get("schema"), int) and raw["schema"] > SCHEMA
            advice = "update robust-transfer" if newer else "it is no card of this project"
            raise CheckpointError(f"{path} has schema {raw.get('schema')!r}, this version reads {SCHEMA}: {advice}")
        spec = _network(dict(raw.pop("network")))
        raw.pop(THREAT_PIXELS, None)
        cost = {"passes": raw.pop("cost", 0.0), **{name: raw.pop(name) for name in COSTS if name in raw}}
        return build(Card, {**raw, "network": spec, "cost": build(Cost, cost, "cost")}, "card")
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except ConfigError as error:
        raise CheckpointError(f"{path} is no card of this project: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no card of this project ({type(error).__name__}: {error})") from None


def _network(raw: dict[str, Any]) -> NetworkSpec:
    """Network from a card's JSON, each part with errors of its own."""
    if "input_size" in raw:  # cards of before preprocessing was a value
        given = {"size": raw.pop("input_size"), "normalisation": raw.pop("normalisation")}
    else:
        given = dict(raw.pop("preprocessing"))
    normalisation = build(Normalisation, given.pop("normalisation"), "normalisation")
    preprocessing = build(Preprocessing, {**given, "normalisation": normalisation}, "preprocessing")
    return build(NetworkSpec, {**raw, "preprocessing": preprocessing}, "network")


def _refuse_foreign(path: Path, data: bytes) -> None:
    """Raise an error that names the format of a file found in place of safetensors."""
    if data[8:9] == b"{":  # after its length, the header of every safetensors file; the length may look like anything
        return
    if data.startswith((b"PK", b"\x80")):
        raise CheckpointError(
            f"{path} is a pickle, which can run code, so it is not loaded: store weights as safetensors"
        )
    if data.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights: run 'git lfs pull' in its folder")


def _restore(card: Card, file: WeightsFile) -> Classifier:
    """Classifier with the weights of ``file``, read tensor by tensor into place."""
    found = file.header()
    # a card may name a network that no memory holds; on the meta device it takes none, and is seen to be another one
    with suppress(NotImplementedError, RuntimeError), undrawn(), torch.device("meta"):
        _refuse_others(card, found, Classifier.build(card.network).state_dict())
    with undrawn():
        classifier = Classifier.build(card.network)
    wanted = classifier.state_dict()
    _refuse_others(card, found, wanted)
    for key, value in file.tensors(found):
        if not _finite(wanted[key].copy_(value)):
            raise CheckpointError(f"the weights hold values that are not finite, in {key!r}: get them again")
    return classifier.eval()


def _refuse_others(card: Card, found: Header, wanted: Mapping[str, Tensor]) -> None:
    """Raise :class:`CheckpointError` for weights whose names, shapes or kinds are not those ``wanted``."""
    name = card.network.name
    for key in sorted({*wanted, *found.entries}):
        if key not in found.entries or key not in wanted:
            where = "lacks" if key not in found.entries else "has an extra"
            raise CheckpointError(f"the weights are of another network: the file {where} {key!r} for a {name!r}")
        entry, expected = found.entries[key], wanted[key]
        if entry.shape != expected.shape or entry.dtype.is_floating_point != expected.is_floating_point():
            raise CheckpointError(
                f"the weights are of another network: {key!r} is {entry.dtype} {entry.shape}, "
                f"a {name!r} has {expected.dtype} {tuple(expected.shape)}"
            )


def _finite(value: Tensor) -> bool:
    """True if all numbers are finite, by their extremes: a twentieth of the cost of ``isfinite``."""
    if not value.is_floating_point() or not value.numel():
        return True
    return all(math.isfinite(float(extreme)) for extreme in value.aminmax())


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over names, shapes and float32 values (16 hex digits)."""
    return _hash_of(module.state_dict())


def stored_hash(folder: Path) -> str | None:
    """:func:`weights_hash` of a run folder's network, without building it; None where there are no weights."""
    if not (folder / WEIGHTS).is_file():
        return None
    try:
        with WeightsFile(folder / WEIGHTS) as file:
            found = {
                name: value.float() if value.is_floating_point() else value
                for name, value in file.tensors(file.header())
            }
    except (OSError, DamagedError, ValueError):
        return None
    return _hash_of(found)


def _hash_of(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(raw_bytes(value))
    return digest.hexdigest()[:16]


def _figure(value: Any) -> str | None:
    """Figure as a table shows it; None for anything else."""
    if isinstance(value, dict) and {"value", "low", "high", "n"} <= value.keys():
        return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}], n = {value['n']}"
    return None if isinstance(value, (dict, list)) else str(value)


def readme(card: Card) -> str:
    """README of a run folder, in Markdown: contents, figures, how to load it."""
    front = "---\nlibrary_name: robust-transfer\ntags: [adversarial-robustness, image-classification]\n---\n"
    return front + page(card, "path/to/this/folder")


def page(card: Card, address: str) -> str:
    """README without its machine-readable part; ``address`` is the name that loads the folder as a source."""
    rows = "\n".join(
        f"| {in_markdown(k)} | {in_markdown(shown)} |"
        for k, v in card.metrics.items()
        if (shown := _figure(v)) is not None
    )
    table = f"\n| figure | value |\n|---|---|\n{rows}\n" if rows else ""
    network, method, data = (
        in_markdown(str(each)) for each in (card.network.name, card.method, card.data.get("name", "unknown"))
    )
    return (
        f"# {network}, {method}\n\n"
        f"{card.network.num_classes} classes, {card.network.input_size}x{card.network.input_size} pixels, "
        f"threat {card.threat or 'none'}, data {data}. "
        f"Images are made by {card.network.preprocessing.geometry}; a threat is on the pixels after that. "
        f"The whole record is in `card.json`.\n{table}\n"
        f'```python\nimport robust_transfer as rt\n\nsource = rt.load_source("{address}")\n```\n'
    )
