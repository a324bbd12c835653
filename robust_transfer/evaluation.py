"""Evaluation: clean and robust accuracy with intervals, and what became of every single example."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pyarrow import ArrowInvalid
from torch import Tensor, nn

from robust_transfer.attacks import Attack, attack_name, parse_attack
from robust_transfer.attacks.deltas import DELTAS, join
from robust_transfer.attacks.knowledge import knowledge_of, public_source
from robust_transfer.attacks.naming import left_out
from robust_transfer.attacks.outcomes import (
    CLEAN,
    COLUMNS,
    EVALUATION,
    OUTCOMES,
    STANDING,
    attack_split,
    discard_state,
    on_device,
    prepare_out,
    refuse_another,
    write_outcomes,
)
from robust_transfer.checkpoint import Checkpoint, weights_hash
from robust_transfer.checks import red_flags
from robust_transfer.classifier import Classifier
from robust_transfer.config import as_dict
from robust_transfer.data import Split, to_pixels
from robust_transfer.data.subsets import stratified
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.intervals import Proportion, wilson
from robust_transfer.run import Run, command_line, environment, write_atomically
from robust_transfer.threat import Threat
from robust_transfer.transferred import Transferred, examine

SCHEMA = 1
DEFAULT_THREAT = "linf:8/255"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    ``robust_accuracy`` is over all n examples: one that is wrong when clean counts as broken. ``constant_accuracy`` is
    the share of the most frequent label, which a classifier that always says it would have, attacked or not.
    ``by_attack`` is cumulative: the share of the n examples that stands after each attack and all those before it.
    ``outcomes`` has a row an example: ``index`` (its id in the split), ``label``, ``clean_prediction``,
    ``adversarial_prediction`` (the label where it stands), ``broken_by`` (an attack, "clean" where it is misclassified
    when clean, "" where it stands) and ``margin`` (best other logit less the label's, on its worst image; float32).
    ``transferred``: what threatens a model with a known source in particular; None for others.
    ``untested`` says what the suite would have tried and could not. ``flags`` are reasons to doubt the figures.
    ``passes`` counts forward-equivalent image passes.
    """

    schema: int
    clean_accuracy: Proportion
    robust_accuracy: Proportion
    constant_accuracy: float
    by_attack: dict[str, float]
    transferred: Transferred | None
    untested: list[str]
    threat: str
    attack: str
    split: str
    input_size: int
    precision: str
    seed: int
    flags: list[str]
    seconds: float
    passes: int
    data_hash: str
    model_hash: str
    source_hash: str | None
    versions: dict[str, str]
    hardware: dict[str, Any]
    command: str
    outcomes: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Everything but the outcomes, as plain JSON types: the contents of ``evaluation.json``."""
        return {f.name: as_dict(getattr(self, f.name)) for f in fields(self) if f.name != "outcomes"}

    def save(self, folder: Path) -> None:
        """Write ``evaluation.json`` and ``outcomes.parquet``, each atomically; raises :class:`OutputError`."""
        write_outcomes(Path(folder), self.to_dict(), self.outcomes)

    def __str__(self) -> str:
        after = [f"{100 * share:.1f} % after {name}" for name, share in self.by_attack.items()]
        lines = [
            f"clean accuracy   {self.clean_accuracy}  ({self.clean_accuracy.n} images, {self.split})",
            f"robust accuracy  {self.robust_accuracy}  ({self.threat}, {self.attack})",
            *([f"                 {', '.join(after)}"] if len(after) > 1 else []),
            f"constant         {100 * self.constant_accuracy:.1f} %  (always saying the most frequent class)",
            *(self.transferred.lines() if self.transferred is not None else []),
            *(f"untested         {what}" for what in self.untested),
            *(f"doubt            {flag}" for flag in self.flags),
        ]
        return "\n".join(lines)


def load_evaluation(folder: Path) -> Evaluation:
    """Read what :meth:`Evaluation.save` wrote; raises :class:`DataError` for what is missing or is something else."""
    folder = Path(folder)
    if not (folder / EVALUATION).is_file():
        raise DataError(f"{folder} holds no evaluation: run `robust-transfer evaluate ... --out {folder}` first")
    try:
        summary = dict(json.loads((folder / EVALUATION).read_text(encoding="utf-8")))
        if summary["schema"] != SCHEMA:
            raise DataError(f"{folder / EVALUATION} has schema {summary['schema']!r}, this version reads {SCHEMA}")
        shares = {name: Proportion(**summary[name]) for name in ("clean_accuracy", "robust_accuracy")}
        transferred = _transferred_from(summary["transferred"])
        table = pd.read_parquet(folder / OUTCOMES)[[*COLUMNS]].astype(COLUMNS)
        evaluation = Evaluation(**{**summary, **shares, "transferred": transferred, "outcomes": table})
    except (OSError, ArrowInvalid, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the evaluation in {folder} cannot be read ({type(error).__name__}): evaluate again") from None
    standing = int((table["broken_by"] == STANDING).sum())
    if len(table) != evaluation.robust_accuracy.n or standing != round(evaluation.robust_accuracy.value * len(table)):
        raise DataError(f"{EVALUATION} and {OUTCOMES} in {folder} are of different evaluations: evaluate again")
    return evaluation


def _transferred_from(summary: dict[str, Any] | None) -> Transferred | None:
    if summary is None:
        return None
    values: dict[str, Any] = {k: Proportion(**v) if isinstance(v, dict) else v for k, v in summary.items()}
    return Transferred(**values)


def evaluate(
    model: Checkpoint | nn.Module,
    split: Split,
    *,
    threat: Threat | str | None = None,
    attack: str | Attack | Sequence[Attack] = "pgd-20",
    examples: int | None = None,
    run: Run | None = None,
    batch_size: int | None = None,
    split_name: str = "test",
    source: Checkpoint | None = None,
    beyond: int = 200,
    checked: int = 64,
    keep_deltas: bool = False,
) -> Evaluation:
    """Attack ``model`` on ``split`` and count what stands; with ``run.out`` the result is saved there.

    ``model``: a checkpoint, a classifier, or any module from images ``(B, 3, H, W)`` in [0, 1] to logits ``(B, K)``.
    Images are given at the model's input size (for a plain module: the split's own). ``threat`` defaults to the card's,
    else linf:8/255. ``examples`` takes a subset, stratified by class and drawn by ``run.seed``. ``run.out`` may be the
    model's own folder, of which nothing but an earlier evaluation is replaced. With ``run.resume`` an evaluation that
    was cut short goes on where it was; the outcomes do not depend on where that is.
    ``source``: what ``model`` was transferred from, for the attacks that use it; the bundled one is found by itself.
    On ``beyond`` images (0: none) of ``split`` such a model is then examined for what threatens it in particular.
    On ``checked`` images (0: none) reasons to doubt the figures are looked for (:mod:`robust_transfer.checks`).
    ``keep_deltas`` also writes the adversarial images, compactly, for :func:`robust_transfer.verification.verify`.
    Raises :class:`ConfigError`, :class:`DataError` and :class:`OutputError` for what does not fit.
    """
    run = run or Run()
    threat = Threat.parse(threat or (model.card.threat if isinstance(model, Checkpoint) else None) or DEFAULT_THREAT)
    chosen = parse_attack(attack)
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
    flags = _compare_classes(model, split)
    module = model.classifier if isinstance(model, Checkpoint) else model
    source, untested = _source(model, source), list[str]()
    if source is None:
        without = left_out(attack, chosen)
        untested = [f"{some}: the source is not at hand (give --source)" for some in without]
        chosen = [some for some in chosen if some not in without]
    whole, knowledge = split, None
    if source is not None and (beyond > 0 or any(some.needs_source for some in chosen)):
        knowledge = knowledge_of(source, split, seed=run.seed)
    split = at_input_size(module, _subset(split, examples, run.seed))
    prepare_out(run)
    if keep_deltas and run.out is None:
        raise ConfigError("keep_deltas writes the adversarial images: give an output folder, too")
    identity: dict[str, Any] = {
        "threat": str(threat),
        "attack": attack_name(chosen),
        "split": split_name,
        "input_size": split.size,
        "precision": str(run.dtype()).removeprefix("torch."),
        "seed": run.seed,
        "data_hash": split.hash,
        "model_hash": module_hash(module),
        "source_hash": source.hash if source is not None and knowledge is not None else None,
    }
    if run.out is not None and run.resume and (run.out / EVALUATION).exists():
        finished = load_evaluation(run.out)
        refuse_another(run.out, {name: getattr(finished, name) for name in identity}, identity)
        return finished
    found = attack_split(
        chosen,
        module,
        split,
        threat,
        run,
        batch_size=batch_size,
        knowledge=knowledge,
        keep_deltas=keep_deltas,
        identity=identity,
    )
    if checked > 0:
        raised, passes = _check(module, split, threat, run, checked)
        flags, found.passes = [*flags, *raised], found.passes + passes
    transferred = None
    if isinstance(model, Checkpoint) and source is not None and knowledge is not None and beyond > 0:
        transferred = examine(model, source, whole, threat, run, knowledge=knowledge, n=beyond)
    made = environment()
    evaluation = Evaluation(
        schema=SCHEMA,
        **_figures(found.table, [str(a) for a in chosen], flags),
        transferred=transferred,
        untested=untested,
        **identity,
        seconds=round(found.seconds, 3),
        passes=found.passes,
        versions=made["versions"],
        hardware=made["hardware"],
        command=command_line(),
        outcomes=found.table,
    )
    if run.out is not None:
        if keep_deltas:
            write_atomically(run.out / DELTAS, partial(join, run.out / "state"))
        evaluation.save(run.out)
        discard_state(run.out)
    return evaluation


def _figures(table: pd.DataFrame, names: list[str], flags: list[str]) -> dict[str, Any]:
    """What the outcomes add up to; ``flags`` are those known before."""
    n, constant = len(table), int(table["label"].value_counts().iloc[0])
    left = standing = int((table["broken_by"] != CLEAN).sum())
    by_attack = {}
    for name in names:
        standing -= int((table["broken_by"] == name).sum())
        by_attack[name] = standing / n
    if table["clean_prediction"].nunique() == 1 and table["label"].nunique() > 1:
        flags = [*flags, "all predictions are one class"]
    if standing <= constant:
        flags = [*flags, "constant classifier is more robust"]
    return {
        "clean_accuracy": wilson(left, n),
        "robust_accuracy": wilson(standing, n),
        "constant_accuracy": constant / n,
        "by_attack": by_attack,
        "flags": flags,
    }


def _check(module: nn.Module, split: Split, threat: Threat, run: Run, n: int) -> tuple[list[str], int]:
    """Red flags on a stratified sample of ``n`` images, and the image passes that looking for them took."""
    device = run.torch_device()
    sample = split.subset(stratified(split.labels, len(split.class_names), n, seed=run.seed, purpose="checks"))
    x, labels, ids = to_pixels(sample.images(), device), sample.labels.to(device), sample.ids.to(device)
    with on_device(module, device):
        return red_flags(module, x, labels, ids, threat, seed=run.seed, dtype=run.dtype())


def _source(model: Checkpoint | nn.Module, given: Checkpoint | None) -> Checkpoint | None:
    """What an attacker is taken to have of the network that ``model`` came from."""
    found = given or (public_source(model) if isinstance(model, Checkpoint) else None)
    module = model.classifier if isinstance(model, Checkpoint) else model
    if given is not None and isinstance(module, Classifier) and given.input_size != module.spec.input_size:
        raise ConfigError(
            f"the source reads images of {given.input_size} pixels and the model of {module.spec.input_size}: "
            "it is not what the model was transferred from"
        )
    return found


def _compare_classes(model: Checkpoint | nn.Module, split: Split) -> list[str]:
    """Refuse an empty split and a model of other classes; returns a flag where the classes have other names."""
    if not len(split):
        raise DataError("the split is empty: there is nothing to evaluate on")
    module = model.classifier if isinstance(model, Checkpoint) else model
    if isinstance(module, Classifier) and module.num_classes != len(split.class_names):
        raise DataError(
            f"the model tells {module.num_classes} classes apart and the data has {len(split.class_names)}: "
            "transfer it to this data first"
        )
    if isinstance(model, Checkpoint) and model.card.class_names != split.class_names:
        return ["the model's classes have other names than the data's"]
    return []


def _subset(split: Split, examples: int | None, seed: int) -> Split:
    """``examples`` images in proportion to the classes, in the split's order; all if there are fewer."""
    if examples is None:
        return split
    if examples < 1:
        raise ConfigError(f"examples must be at least 1, not {examples}")
    classes = len(split.class_names)
    return split.subset(stratified(split.labels, classes, examples, seed=seed, purpose="evaluation/examples"))


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
