"""Evaluation: clean and robust accuracy with intervals, and per-example outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from numbers import Integral, Real
from types import NoneType
from typing import Any

from torch import nn

from robust_transfer import corruptions as corrupting
from robust_transfer import tracking
from robust_transfer.attacks import Attack, attack_name, parse_attack
from robust_transfer.attacks.naming import left_out, with_parts
from robust_transfer.certification import Certifier, parse_certifiers
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import expect
from robust_transfer.data import Split
from robust_transfer.data.class_map import ClassMap
from robust_transfer.defaults import DEFAULT_THREAT
from robust_transfer.environment import command_line, environment
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.classes import balanced, by_class
from robust_transfer.evaluation.deadline import Deadline
from robust_transfer.evaluation.deltas import DELTAS, join
from robust_transfer.evaluation.further import parse_further
from robust_transfer.evaluation.knowledge import knowledge_of
from robust_transfer.evaluation.loop import attack_split
from robust_transfer.evaluation.measurements import LATE, Measurements, Request
from robust_transfer.evaluation.outcomes import CLEAN, EVALUATION, Outcomes
from robust_transfer.evaluation.precision import disagreement, engine_for, without_repetition
from robust_transfer.evaluation.random_models import NOTE, answers_of
from robust_transfer.evaluation.red_flags import outcome_flags
from robust_transfer.evaluation.renamed import ARGUMENTS, accepting
from robust_transfer.evaluation.resolve import (
    Subject,
    check_arguments,
    find_source,
    module_hash,
    module_of,
    resolve,
    threat_pixels,
)
from robust_transfer.evaluation.result import SCHEMA, Evaluation, load_evaluation
from robust_transfer.evaluation.resume import discard_state, goes_on, prepare_out, refuse_another
from robust_transfer.evaluation.seen import Seen, look_for_seen
from robust_transfer.files import write_bytes
from robust_transfer.launch import is_main_process
from robust_transfer.mixture import mixed_head
from robust_transfer.progress import tell
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import wilson
from robust_transfer.threat import Threat


@accepting(ARGUMENTS)
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
    red_flag_examples: int | None = None,
    transfer_attack_examples: int | None = None,
    thorough: bool = False,
    keep_deltas: bool = False,
    per_class: bool = False,
    curve: Sequence[str | float] | None = None,
    smallest_eps: bool = False,
    certify: str | Certifier | Sequence[Certifier] = (),
    also: str | Threat | Sequence[str | Threat] = (),
    corruptions: bool = False,
    time_limit: float | None = None,
    class_map: ClassMap | None = None,
) -> Evaluation:
    """Attack ``model`` on ``split`` and measure clean and robust accuracy; with ``run.out`` the result is saved there.

    ``model``: a checkpoint, a classifier, or any module from images ``(B, 3, H, W)`` in [0, 1] to logits ``(B, K)``.
    Images are resized to the model's input size (for a plain module: the split's own). ``threat`` defaults to the
    card's, else linf:8/255. ``examples``: size of a subset, stratified by class and drawn by ``run.seed``.
    ``run.out`` may be the model's own folder, of which only an earlier evaluation is replaced. With ``run.resume`` an
    interrupted evaluation continues; the outcomes do not depend on the interruption.

    ``source``: the checkpoint that ``model`` was transferred from, for attacks through it; packaged ones are
    recognised automatically. ``red_flag_examples``: number of images for red flags
    (:mod:`robust_transfer.evaluation.red_flags`); ``transfer_attack_examples``: number of images of ``split`` for the
    transfer-specific attacks on a transferred model. 0 disables either. By default both together take about as many
    image passes as the attack itself (:mod:`robust_transfer.evaluation.sizes`); a ``thorough`` evaluation takes 64
    and 200 images.

    ``keep_deltas`` also writes the adversarial images, compactly, for :func:`verify`. ``per_class`` prints each class
    (the record always has them). ``curve`` (other budgets, such as ``["2/255", "4/255"]``) and ``smallest_eps`` (per
    example, by bisection) need further attacks, each on the survivors of smaller budgets. ``certify``: certificates of
    the same images (:mod:`robust_transfer.certification`), such as ``"smoothing:sigma=0.25"``. ``also``: further threats,
    such as ``["l2:0.5", "linf:4/255"]``, within which the same images are attacked by the same attacks. ``corruptions``: also
    accuracy, without an attack, under 15 common corruptions at five severities (:mod:`robust_transfer.corruptions`).

    A checkpoint's classes are matched with the data's by name, in any order; ``class_map`` (a mapping, or a file with
    one, from names in the data to names in the model) translates them first; ``notes`` record the matching. Images
    that the model or its source was trained on are counted and flagged (``seen``). ``run.track``: trackers for the
    headline figures, in the tracker's run of the folder ``run.out`` if it has one.

    ``time_limit`` (seconds): the figures are then over the examples reached, a random sample, ``untested`` lists the
    rest, and the same call with ``run.resume`` continues. For a finished evaluation ``run.resume`` adds the requested
    measurements that are missing. Raises :class:`ConfigError`, :class:`DataError` and :class:`OutputError` for
    invalid arguments.
    """
    check_arguments(model, split, run)
    expect("source", source, Checkpoint, NoneType, hint="such as load_source('bundled')")
    for name, number in (("examples", examples), ("batch_size", batch_size)):
        expect(name, number, Integral, NoneType)
    expect("time_limit", time_limit, Real, NoneType, hint="in seconds")
    how = run or Run()
    own = model.card.threat if isinstance(model, Checkpoint) else None
    ball = Threat.parse(threat if threat is not None else own or DEFAULT_THREAT)
    request = Request(
        red_flag_examples=red_flag_examples, transfer_attack_examples=transfer_attack_examples, thorough=thorough,
        per_class=per_class, curve=curve, smallest_eps=smallest_eps, certify=parse_certifiers(certify),
        also=parse_further(also, ball), corruptions=corruptions,
    )  # fmt: skip
    request.check_curve(ball)
    _check(how, batch_size, time_limit, keep_deltas)
    if corruptions:
        corrupting.library()
    if (
        not is_main_process()
    ):  # in memory it may do the same work as the main one, which alone reads and writes the folder
        how, keep_deltas = replace(how, out=None, resume=False, overwrite=False, track=()), False
    known = find_source(model, source)
    attacks, untested = _within_reach(model, known, attack)
    with how.at_work():
        subject = resolve(model, split, known, examples, how, class_map)
        for certifier in request.certify:
            certifier.check(subject.module, subject.split, how)
        if corruptions:
            corrupting.check(subject.split.size)
        prepare_out(how, subject.stored_hash)
        asks_source = transfer_attack_examples != 0 or any(some.needs_source for some in attacks)
        knowledge = knowledge_of(known, subject.whole, seed=how.seed) if known is not None and asks_source else None
        deadline, engine = Deadline(time_limit), engine_for(subject.module, subject.split, how, attacks)
        answers = answers_of(subject.module, subject.split, how)
        if answers > 1:
            subject = replace(subject, notes=(*subject.notes, NOTE))
        stages = without_repetition(attacks, engine)
        adversary = Adversary(stages, ball, engine, knowledge, how.seed, batch_size, answers)
        identity = _identity(subject, adversary, attack_name(attacks))

        finished = _finished(how, identity, keep_deltas)
        outcomes = None if finished else _attack(subject, adversary, how, identity, deadline, keep_deltas)
        found = finished or _record(subject, adversary, identity, outcomes, untested)
        reached = subject.at(outcomes.reached) if outcomes is not None else subject
        late = outcomes is not None and bool(outcomes.unreached(adversary.attacks))
        measurements = Measurements(subject=reached, adversary=adversary, run=how)
        if finished is None and not late and measurements.asked(found, request):
            tell(how.quiet, found.headline())
        evaluation = measurements.add(found, request, Deadline(0.0) if late else deadline)
        if how.out is not None and evaluation is not finished:
            if keep_deltas and finished is None:
                write_bytes(how.out / DELTAS, join(how.out / "state"))
            evaluation.save(how.out)
        if how.out is not None and not late:
            with suppress(OSError):  # of a finished one, too: its process may have been killed before it did
                discard_state(how.out)
        _track(evaluation, how)
        return evaluation


def _track(evaluation: Evaluation, run: Run) -> None:
    title = run.out.name if run.out is not None else "evaluation"
    with tracking.tracked(run.track, run.out, title=title, configuration=evaluation.asked(), resume=True):
        tracking.conclude(evaluation.headline_figures(), "evaluation")


def _check(run: Run, batch_size: int | None, time_limit: float | None, keep_deltas: bool) -> None:
    tracking.check(run.track, run.out)
    if time_limit is not None and not 0 < time_limit < math.inf:
        raise ConfigError(f"a time limit is a positive number of seconds, not {time_limit}")
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
    if keep_deltas and run.out is None:
        raise ConfigError("keep_deltas writes the adversarial images: give an output folder, too")


def _within_reach(
    model: Checkpoint | nn.Module, source: Checkpoint | None, attack: str | Attack | Sequence[Attack]
) -> tuple[list[Attack], list[str]]:
    """Attacks that can be run, and a sentence for each that cannot, for want of the model's source.

    Of a mixture of two networks suites end with the attack through each of them; where no attack does that, it is said, too.
    """
    named, untested = parse_attack(attack), list[str]()
    if mixed_head(module_of(model)) is not None:
        named = with_parts(attack, named)
        if not any(some.needs_parts for some in named):
            untested.append("the mixture through each of its two networks, in the headline: attack with through-parts")
    if source is not None:
        return named, untested
    without = left_out(attack, parse_attack(attack))
    if not (isinstance(model, Checkpoint) and model.card.source is None):
        untested += [f"{a}: the source is not at hand (give --source)" for a in without]
    return [some for some in named if some not in without], untested


def _identity(subject: Subject, adversary: Adversary, attack: str) -> dict[str, Any]:
    """Identity of an evaluation, compared when one is resumed."""
    return {
        "threat": str(adversary.threat),
        "attack": attack,
        "split": subject.split.role or "unknown",
        "input_size": subject.split.size,
        "precision": adversary.engine.precision,
        "compiled": adversary.engine.compiled,
        "seed": adversary.seed,
        "data_hash": subject.given.hash,
        "matched": list(subject.matched),
        "model_hash": module_hash(subject.module),
        "source_hash": subject.source.hash if subject.source is not None and adversary.knowledge is not None else None,
    }


def _attack(
    subject: Subject, adversary: Adversary, run: Run, identity: dict[str, Any], deadline: Deadline, keep_deltas: bool
) -> Outcomes:
    own = {**identity, "keep_deltas": keep_deltas}
    return attack_split(
        adversary, subject.module, subject.split, run, keep_deltas=keep_deltas, identity=own, deadline=deadline
    )


def _record(
    subject: Subject,
    adversary: Adversary,
    identity: dict[str, Any],
    found: Outcomes | None,
    untested: list[str],
) -> Evaluation:
    """Evaluation of the outcomes ``found``, before any optional measurement."""
    assert found is not None
    unreached = [f"{attack}: {n} images, {LATE}" for attack, n in found.unreached(adversary.attacks).items()]
    reached, model, made = subject.at(found.reached), subject.model, environment()
    classes = by_class(found.table, subject.split.class_names)
    seen, unknown = look_for_seen(model, reached.given, found.table) if isinstance(model, Checkpoint) else ([], [])
    return Evaluation(
        schema=SCHEMA,
        **_figures(found, adversary.attacks, seen, identity["split"]),
        by_class=classes,
        **balanced(classes),
        curve=None,
        transferred=None,
        untested=[*untested, *unknown, *unreached],
        **{**identity, "data_hash": reached.given.hash},
        seen=seen,
        notes=list(subject.notes),
        class_names=list(subject.split.class_names),
        pixels=threat_pixels(subject),
        seconds=round(found.seconds, 3),
        passes=found.passes,
        versions=made["versions"],
        hardware=made["hardware"],
        command=command_line(),
        outcomes=found.table,
        disagreement=disagreement(adversary.engine, found),
    )


def _finished(run: Run, identity: dict[str, Any], keep_deltas: bool) -> Evaluation | None:
    """Finished evaluation in the output folder, or None; refuses another evaluation's."""
    if run.out is None or not run.resume or not (run.out / EVALUATION).exists() or goes_on(run.out):
        return None
    finished = load_evaluation(run.out)
    refuse_another(run.out, {name: getattr(finished, name) for name in identity}, identity)
    if keep_deltas and not (run.out / DELTAS).exists():
        raise ConfigError(
            f"the evaluation in {run.out} has kept no adversarial images: evaluate again, with --overwrite"
        )
    return finished


def _figures(found: Outcomes, attacks: Sequence[Attack], seen: list[Seen], split: str) -> dict[str, Any]:
    """Summary of the outcomes, with their red flags."""
    table = found.table
    n, constant = len(table), int(table["label"].value_counts().iloc[0])
    left = standing = int((table["broken_by"] != CLEAN).sum())
    by_attack = {}
    for name in [str(attack) for attack in attacks][: found.used]:
        standing -= int((table["broken_by"] == name).sum())
        by_attack[name] = standing / n
    clean, robust = wilson(left, n), wilson(standing, n)
    return {
        "clean_accuracy": clean,
        "robust_accuracy": robust,
        "constant_accuracy": constant / n,
        "by_attack": by_attack,
        "flags": [*(each.flag(split, clean, robust) for each in seen), *outcome_flags(table, attacks)],
    }
