"""Evaluation: clean and robust accuracy with intervals, and what became of every single example."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from robust_transfer.attacks import Attack, attack_name, parse_attack
from robust_transfer.attacks.deadline import Deadline
from robust_transfer.attacks.deltas import DELTAS, join
from robust_transfer.attacks.knowledge import knowledge_of
from robust_transfer.attacks.naming import left_out
from robust_transfer.attacks.outcomes import (
    CLEAN,
    EVALUATION,
    Outcomes,
    attack_split,
    discard_state,
    goes_on,
    prepare_out,
    refuse_another,
)
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.checks import outcome_flags
from robust_transfer.data import Split
from robust_transfer.data.class_map import ClassMap
from robust_transfer.data.subsets import stratified
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation.extras import LATE, Asked, Extras
from robust_transfer.evaluation.precision import disagreement, engine_for, without_repetition
from robust_transfer.evaluation.record import SCHEMA, Evaluation, load_evaluation
from robust_transfer.evaluation.seen import Seen, look_for_seen
from robust_transfer.evaluation.subject import at_input_size, find_source, in_classes_of, module_hash, module_of
from robust_transfer.intervals import wilson
from robust_transfer.run import Run, command_line, environment, write_atomically
from robust_transfer.threat import Threat, parse_budget

DEFAULT_THREAT = "linf:8/255"


def evaluate(
    model: Checkpoint | nn.Module,
    split: Split,
    *,
    threat: Threat | str | None = None,
    attack: str | Attack | Sequence[Attack] = "pgd-20",
    examples: int | None = None,
    run: Run | None = None,
    batch_size: int | None = None,
    source: Checkpoint | None = None,
    beyond: int = 200,
    checked: int = 64,
    keep_deltas: bool = False,
    per_class: bool = False,
    curve: Sequence[str | float] | None = None,
    smallest_eps: bool = False,
    budget: float | None = None,
    class_map: ClassMap | None = None,
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
    ``keep_deltas`` also writes the adversarial images, compactly, for :func:`verify`.
    ``per_class``, ``curve`` (other budgets, such as ``["2/255", "4/255"]``) and ``smallest_eps`` (per example, by
    bisection) ask for more; the last two attack again, what smaller budgets have left.
    A checkpoint's classes are matched with the data's by name, in whatever order they are; ``class_map`` (a mapping, or a
    file with one, from names in the data to names in the model) translates them first. The record says so in ``notes``.
    Images that the model or its source was trained on are counted and flagged (``seen``).
    ``budget`` (seconds) stops in time: the figures are then over the examples that were reached, a random sample,
    ``untested`` says what was not, and the same call with ``run.resume`` goes on. A finished evaluation with
    ``run.resume`` is added to: what is asked for and is not there is measured.
    Raises :class:`ConfigError`, :class:`DataError` and :class:`OutputError` for what does not fit.
    """
    run = run or Run()
    threat = Threat.parse(threat or (model.card.threat if isinstance(model, Checkpoint) else None) or DEFAULT_THREAT)
    chosen = parse_attack(attack)
    if budget is not None and budget <= 0:
        raise ConfigError(f"a budget is a positive number of seconds, not {budget}")
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
    if min(beyond, checked) < 0:
        raise ConfigError("beyond and checked are numbers of images: 0 for none")
    for level in curve or ():
        dataclasses.replace(threat, eps=float(parse_budget(level)))
    if curve is not None and not len(curve):
        raise ConfigError("a curve needs at least one budget, such as 2/255,4/255,8/255")
    if keep_deltas and run.out is None:
        raise ConfigError("keep_deltas writes the adversarial images: give an output folder, too")
    whole, notes = in_classes_of(model, split, class_map)
    notes = [*split.notes, *notes]
    module = module_of(model)
    source, untested = find_source(model, source), list[str]()
    if source is None:
        without = left_out(attack, chosen)
        if not (isinstance(model, Checkpoint) and model.card.source is None):  # there it is that there is none
            untested = [f"{some}: the source is not at hand (give --source)" for some in without]
        chosen = [some for some in chosen if some not in without]
    knowledge = None
    if source is not None and (beyond > 0 or any(some.needs_source for some in chosen)):
        knowledge = knowledge_of(source, whole, seed=run.seed)
    given = at_input_size(module, subset(split, examples, run.seed))  # the labels' numbers as the data has them
    split, _ = in_classes_of(model, given, class_map)
    prepare_out(run, model.card.weights_hash if isinstance(model, Checkpoint) else None)
    engine, deadline = engine_for(module, split, run, chosen), Deadline(budget)
    asked = attack_name(chosen)
    chosen = without_repetition(chosen, engine)
    identity: dict[str, Any] = {
        "threat": str(threat),
        "attack": asked,
        "split": split.role or "unknown",
        "input_size": split.size,
        "precision": engine.precision,
        "compiled": engine.compiled,
        "seed": run.seed,
        "data_hash": given.hash,
        "model_hash": module_hash(module),
        "source_hash": source.hash if source is not None and knowledge is not None else None,
    }
    begun = finished = _finished(run, identity, keep_deltas)
    unreached: list[str] = []
    if begun is None:
        found = attack_split(
            chosen,
            module,
            split,
            threat,
            run,
            engine=engine,
            batch_size=batch_size,
            knowledge=knowledge,
            keep_deltas=keep_deltas,
            identity={**identity, "keep_deltas": keep_deltas},
            deadline=deadline,
        )
        unreached = [f"{attack}: {n} images, {LATE}" for attack, n in found.unreached(chosen).items()]
        reached = torch.from_numpy(found.reached)
        split, given = split.subset(reached), given.subset(reached)
        seen, unknown = look_for_seen(model, given, found.table) if isinstance(model, Checkpoint) else ([], [])
        made = environment()
        begun = Evaluation(
            schema=SCHEMA,
            **_figures(found, [str(a) for a in chosen], seen, identity["split"]),
            by_class=None,
            curve=None,
            transferred=None,
            untested=[*untested, *unknown, *unreached],
            **{**identity, "data_hash": given.hash},
            seen=seen,
            notes=notes,
            class_names=list(split.class_names),
            seconds=round(found.seconds, 3),
            passes=found.passes,
            versions=made["versions"],
            hardware=made["hardware"],
            command=command_line(),
            outcomes=found.table,
            disagreement=disagreement(engine, found),
        )
    extras = Extras(model, source, chosen, whole, split, threat, run, engine, batch_size, knowledge)
    wanted = Asked(checked, beyond, per_class, curve, smallest_eps)
    evaluation = extras.add(begun, wanted, Deadline(0.0) if unreached else deadline)
    if run.out is not None and evaluation is not finished:
        if keep_deltas and finished is None:
            write_atomically(run.out / DELTAS, partial(join, run.out / "state"))
        evaluation.save(run.out)
        if not unreached:
            discard_state(run.out)
    return evaluation


def _finished(run: Run, identity: dict[str, Any], keep_deltas: bool) -> Evaluation | None:
    """What is in the output folder, where nothing is left to attack; refuses another evaluation's."""
    if run.out is None or not run.resume or not (run.out / EVALUATION).exists() or goes_on(run.out):
        return None
    finished = load_evaluation(run.out)
    refuse_another(run.out, {name: getattr(finished, name) for name in identity}, identity)
    if keep_deltas and not (run.out / DELTAS).exists():
        raise ConfigError(
            f"the evaluation in {run.out} has kept no adversarial images: evaluate again, with --overwrite"
        )
    return finished


def _figures(found: Outcomes, names: list[str], seen: list[Seen], split: str) -> dict[str, Any]:
    """What the outcomes add up to, with the flags that they raise."""
    table = found.table
    n, constant = len(table), int(table["label"].value_counts().iloc[0])
    left = standing = int((table["broken_by"] != CLEAN).sum())
    by_attack = {}
    for name in names[: found.used]:
        standing -= int((table["broken_by"] == name).sum())
        by_attack[name] = standing / n
    clean, robust = wilson(left, n), wilson(standing, n)
    return {
        "clean_accuracy": clean,
        "robust_accuracy": robust,
        "constant_accuracy": constant / n,
        "by_attack": by_attack,
        "flags": [*(each.flag(split, clean, robust) for each in seen), *outcome_flags(table)],
    }


def subset(split: Split, examples: int | None, seed: int) -> Split:
    """What ``examples`` takes: so many images in proportion to the classes, in the split's order; all if there are fewer."""
    if examples is None:
        return split
    if examples < 1:
        raise ConfigError(f"examples must be at least 1, not {examples}")
    classes = len(split.class_names)
    return split.subset(stratified(split.labels, classes, examples, seed=seed, purpose="evaluation/examples"))
