"""``rank``: sources in the order of their predicted accuracy on a task, without any attack on the task's images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.choosing.gathering import gathered
from robust_transfer.config import expect
from robust_transfer.data import Task
from robust_transfer.defaults import DEFAULT_THREAT
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.production import without_test
from robust_transfer.progress import stage
from robust_transfer.ranking.evidence import logme
from robust_transfer.ranking.margins import distances, standing_by_first_order, standing_by_shift
from robust_transfer.ranking.own_shift import own_shifts
from robust_transfer.ranking.ranking import By, Own, Ranked, Ranking, Shift
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import wilson
from robust_transfer.strategies.linear_probe import LinearProbe
from robust_transfer.threat import Threat

TRAIN, VAL = 2000, 500  # images of the samples


def rank(
    task: Task,
    *,
    sources: Sequence[str | Checkpoint] = (),
    threat: Threat | str | None = None,
    by: By = "robust",
    source_data: Sequence[Task] = (),
    examples: int = TRAIN,
    run: Run | None = None,
) -> Ranking:
    """Order ``sources`` by the accuracy that a linear probe of each is predicted to have on ``task``, in seconds.

    Each source computes features of up to ``examples`` images of train and 500 of val (stratified, drawn by ``run.seed``). A
    probe on them predicts clean accuracy; the margins of the val images, to first order, predict robust accuracy at
    ``threat`` (default: that of the first source that has one, else linf:8/255). No image of ``task`` is attacked, and its
    test split is not looked at.

    ``source_data``: data that sources were trained on. Of a source whose own images are among them, the shift of the features
    under attack is measured there, once, and gives a second prediction of robust accuracy (Nern et al. 2023).
    ``sources``: names or checkpoints; by default the robust ones of the package. Raises :class:`ConfigError` without val
    images, and what the first source raises if no source can be used.
    """
    expect("task", task, Task, hint="such as load_task('builtin:digits')")
    if by not in get_args(By):
        raise ConfigError(f"by is robust or clean, not {by!r}")
    if examples < 2:
        raise ConfigError(f"a probe needs at least 2 examples, not {examples}")
    if not len(task.val):
        raise ConfigError("rank predicts on val, and val is empty: give --val, or more shots")
    run, began = run or Run(), time.perf_counter()
    given = None if threat is None else Threat.parse(threat)
    with run.at_work():
        usable, unusable = gathered(sources, task.train, given)
        judged = given or next((each.card.threat for each in usable.values() if each.card.threat), None)
        judged = judged or Threat.parse(DEFAULT_THREAT)
        sample = _sample(task, examples, run.seed)
        found, problem = list[Ranked](), ConfigError("no source is given")
        with stage("ranking", len(usable), run.quiet, each=len(sample.train) + 5 * len(sample.val)) as bar:
            for name, source in usable.items():
                bar.begin(1, f"ranking: {name}")
                try:
                    found.append(_ranked(name, source, sample, judged, source_data, run))
                except (CheckpointError, ConfigError) as error:
                    unusable[name] = str(error)
                    problem = ConfigError(f"{name}: {error}")
                bar.advance(1)
    if not found:
        raise problem
    ordered = sorted(found, key=lambda one: _place(one, by), reverse=True)
    return Ranking(
        data=task.name,
        threat=str(judged),
        by=by,
        sources=tuple(ordered),
        unusable=unusable,
        n_train=len(sample.train),
        n_val=len(sample.val),
        seed=run.seed,
        seconds=round(time.perf_counter() - began, 2),
        notes=tuple(_notes(ordered)),
    )


def _sample(task: Task, examples: int, seed: int) -> Task:
    """Task of stratified samples of train and val; without a test split."""
    train = task.train.sample(examples, seed=seed, purpose="rank/train")
    val = task.val.sample(VAL, seed=seed, purpose="rank/val")
    return without_test(replace(task, train=train, val=val))


def _ranked(
    name: str, source: Checkpoint, sample: Task, threat: Threat, source_data: Sequence[Task], run: Run
) -> Ranked:
    began = time.perf_counter()
    task = sample.prepared(source.preprocessing)
    probe = LinearProbe().solve(source, task, run)
    chosen = probe.chosen
    record = next(each for each in probe.records if each["l2"] == chosen.l2)
    distance, rivals = distances(probe.val_features, task.val.labels, chosen.weight, chosen.bias)
    device = run.torch_device()
    probed = source.classifier.with_layers(chosen.head()).to(device)
    stands = standing_by_first_order(probed, task.val, rivals, threat, device)
    shifts = own_shifts(source, source_data, threat, run)
    shift = None
    if shifts is not None:
        by_shift = standing_by_shift(distance, shifts)
        shift = Shift(median=float(shifts.median()), allowed=float(distance.median()), n=len(shifts), robust=by_shift)
    return Ranked(
        name=name,
        clean=wilson(int((distance > 0).sum()), len(distance)),
        log_loss=record["val_loss"],
        logme=logme(probe.features, task.train.labels, task.num_classes),
        robust=wilson(int(stands.sum()), len(stands)),
        shift=shift,
        own=Own(clean=_stated(source, "clean_accuracy"), robust=_stated(source, "robust_accuracy")),
        l2=chosen.l2,
        seconds=round(time.perf_counter() - began, 2),
    )


def _place(one: Ranked, by: By) -> tuple[float, ...]:
    """Key to order by, the best highest; of equals it is the one with the higher evidence."""
    pair = (one.robust.value, one.clean.value)
    return (*(pair if by == "robust" else pair[::-1]), one.logme)


def _stated(source: Checkpoint, what: str) -> float | None:
    """Accuracy on its own data that a source's card states: on test, else on val."""
    for key in (f"test_{what}", f"val_{what}"):
        figure: Any = source.card.metrics.get(key)
        value = figure.get("value") if isinstance(figure, dict) else figure
        if isinstance(value, float):
            return value
    return None


def _notes(ordered: Sequence[Ranked]) -> list[str]:
    notes = list[str]()
    if len(ordered) > 1 and ordered[1].robust.high >= ordered[0].robust.low:
        close = sum(one.robust.high >= ordered[0].robust.low for one in ordered[1:])
        notes.append(
            f"{close} other source{'s' * (close > 1)} may be as robust within the samples' noise: `choose` measures them"
        )
    if any(one.shift is None for one in ordered):
        notes.append(
            "by shift is unknown without a source's own images: --source-data gives them, and they are attacked once"
        )
    return notes
