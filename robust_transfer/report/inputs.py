"""Images and network of an evaluation: located by its record, verified by their hashes.

Nothing is downloaded, and nothing named by the record is used before its hash is compared.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_transfer.checkpoint import Checkpoint, load_checkpoint
from robust_transfer.data import Dataset, Split
from robust_transfer.errors import DataError, RobustTransferError
from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.own_val import own_val
from robust_transfer.evaluation.verification import evaluated_images
from robust_transfer.files import expanded
from robust_transfer.report.gather import Entry
from robust_transfer.sources import BUNDLED, NATURAL, load_source

BUILTIN = "builtin:"
READ = (
    "data",
    "split",
    "shots",
    "val",
    "seed",
    "image-column",
    "label-column",
    "split-column",
)  # options that say which images
GIVE = "give --data, with the data that was evaluated"


@dataclass(frozen=True)
class Inputs:
    """Evaluated images, in the outcomes' order and at the network's input size, and the network."""

    images: Split
    model: Checkpoint


def find_inputs(entry: Entry, data: str | None) -> Inputs:
    """Images and network of an evaluated entry. Raises :class:`RobustTransferError` for missing ones.

    ``data`` is the location of the images; None: that in the evaluation's command, if it is on this machine.
    """
    evaluation = entry.evaluation
    assert evaluation is not None
    asked = options(evaluation.command)
    model = _model(entry, evaluation, asked.get("model"))
    if model is None:
        raise DataError("the network is not available, so its preprocessing is unknown: also give its run folder")
    split = _split(_place(data, asked), asked, evaluation, model)
    return Inputs(evaluated_images(evaluation, split.prepared(model.preprocessing)), model)


def options(command: str) -> dict[str, str]:
    """Model and options of an ``evaluate`` or ``choose`` command that select its images; empty for others."""
    try:
        words = shlex.split(command)
    except ValueError:
        return {}
    if words[1:2] not in (["evaluate"], ["choose"]):
        return {}
    has_model = words[1] == "evaluate" and len(words) > 2 and not words[2].startswith("-")
    found = {"model": words[2]} if has_model else {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in READ:
            found[name] = value if equals else following
    return found


def _place(data: str | None, asked: dict[str, str]) -> str:
    if data is not None:
        return data
    if (named := asked.get("data")) is None:
        raise DataError(f"the record does not say where its images are: {GIVE}")
    if not named.startswith(BUILTIN) and not expanded(named).exists():
        raise DataError(f"its images are not at {named}, or not in this folder's reach: {GIVE}")
    return named


def _split(place: str, asked: dict[str, str], evaluation: Evaluation, model: Checkpoint) -> Split:
    image, label, said = (asked.get(f"{what}-column") for what in ("image", "label", "split"))
    dataset = Dataset(place, image_column=image, label_column=label, split_column=said)
    if evaluation.split == "val" and model.trained_on is not None:
        return own_val(model, dataset.task())
    try:
        shots, val = asked.get("shots"), asked.get("val")
        drawn: dict[str, Any] = {"shots": None if shots is None else int(shots), "seed": int(asked.get("seed", "0"))}
        drawn["val"] = None if val is None else float(val)
    except ValueError:
        raise DataError(f"the record's command cannot be understood: {GIVE}") from None
    if evaluation.split == "test":  # which no shots, val or seed changes
        return dataset.test
    task = dataset.task(**drawn)
    splits = {"train": task.train, "val": task.val}
    if evaluation.split not in splits:
        raise DataError("the record does not say which split its images are of")
    return splits[evaluation.split]


def _model(entry: Entry, evaluation: Evaluation, named: str | None) -> Checkpoint | None:
    """Network of this evaluation: in its folder, among the given, or at its command's location."""
    if entry.network is not None:
        return _same(load_checkpoint(entry.network.folder), evaluation)
    if named in (BUNDLED, NATURAL):
        return _same(load_source(named), evaluation)
    if named is not None and expanded(Path(named)).is_dir():
        try:
            return _same(load_checkpoint(Path(named)), evaluation)
        except RobustTransferError:
            return None
    return None


def _same(model: Checkpoint, evaluation: Evaluation) -> Checkpoint:
    if model.hash != evaluation.model_hash:
        raise DataError("the network in its folder is not the one that was evaluated")
    return model
