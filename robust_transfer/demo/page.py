"""Page of the demo: every figure measured, every sentence generated from the figures."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.defaults import DEFAULT_THREAT
from robust_transfer.demo.rows import BATCH, Row, check_control, contenders, from_scratch, measure
from robust_transfer.demo.words import headline, sentences
from robust_transfer.drawing import png, render
from robust_transfer.environment import environment
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.deltas import unpack
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.files import write_json, write_text
from robust_transfer.launch import place
from robust_transfer.run import Run
from robust_transfer.threat import Threat

PICTURES = 5


def run_demo(
    source: Checkpoint,
    task: Task,
    *,
    data: str,
    examples: int,
    run: Run,
    source_name: str = "bundled",
    control: Checkpoint | None = None,
    scratch: bool = True,
) -> Path:
    """Compare strategies on ``task`` under attack, and write ``index.html`` under ``run.out``.

    Each strategy starts from ``source`` and, where it is given, from ``control``, a naturally trained network of the same
    shape; with ``scratch`` the source's network is also trained from random weights, naturally and adversarially.
    ``examples`` test images (a stratified subset) are attacked by PGD-20 at the source's threat (linf:8/255 where it has
    none). Returns the page's path. Raises :class:`ConfigError` for a control that does not fit.
    """
    if place().world > 1:
        raise ConfigError("the demo takes one process: start it without torchrun")
    if run.out is None:
        raise DataError("the demo writes a page: give it an output folder")
    if examples < 1:
        raise ConfigError(f"examples must be at least 1, not {examples}")
    if control is not None:
        check_control(source, control)
    with run.at_work():
        run.check_out()
        started = time.perf_counter()
        threat = source.card.threat or Threat.parse(DEFAULT_THREAT)
        task = task.prepared(source.preprocessing)
        out = run.prepare_out() or run.out
        wanted = contenders(source, control, task, threat, scratch=scratch)
        with tempfile.TemporaryDirectory() as folder:
            rows, failed = measure(wanted, task, threat, examples=examples, run=run, folder=Path(folder))
        named = {"source": source_name, "data": data}
        page = _page(rows, failed, (source, control), task, named, threat, run, time.perf_counter() - started)
        table = {"rows": [r.figures() for r in rows], "failed": failed}
        write_json(out / "table.json", {**table, "evaluations": [r.evaluation.to_dict() for r in rows]})
        write_text(out / "index.html", page)
        return out / "index.html"


def _page(
    rows: Sequence[Row],
    failed: dict[str, str],
    starts: tuple[Checkpoint, Checkpoint | None],
    task: Task,
    named: dict[str, str],
    threat: Threat,
    run: Run,
    seconds: float,
) -> str:
    first, card = rows[0].evaluation, starts[0].card
    n, constant = first.clean_accuracy.n, first.constant_accuracy
    figures = [row.figures() for row in rows]
    start = "the robust source" if card.threat else "the source"
    made = environment()
    versions = ", ".join(
        f"{k} {v}" for k, v in made["versions"].items() if k in ("python", "torch", "timm", "robust-transfer")
    )
    shown = [next(row for row in rows if row.group == group) for group in dict.fromkeys(row.group for row in rows)]
    return render(
        "demo.html",
        style="demo.css",
        title=headline(figures, start),
        task={"name": task.name, "train": len(task.train), "val": len(task.val), "per_class": _per_class(task)},
        notes=" ".join(f"{note[0].upper()}{note[1:].rstrip('.')}." for note in task.notes),
        n=n,
        attack=first.attack,
        threat=str(threat),
        why="the budget that the source was trained for"
        if card.threat
        else "the usual budget, as the source names none",
        seed=run.seed,
        groups=_groups(figures, starts, task, start),
        failed=failed,
        constant=constant,
        constant_class=_most_frequent(task, first),
        sentences=sentences(figures, constant, n, start) + _caveat(named),
        names=[_GALLERY[row.group].format(name=row.name) for row in shown],
        gallery=_gallery(shown, task.test, threat),
        magnify=10,
        versions=versions,
        hardware=f"{made['hardware']['cpu']}, {made['hardware']['threads']} threads",
        total_seconds=round(seconds),
        **_next(named),
    )


_GALLERY = {
    "source": "{name}, from the source",
    "control": "{name}, from the natural twin",
    "scratch": "{name} from scratch",
}


def _groups(
    figures: Sequence[dict[str, Any]], starts: tuple[Checkpoint, Checkpoint | None], task: Task, start: str
) -> list[dict[str, Any]]:
    """Sections of the table: the common start, and its rows."""
    source, control = starts
    epochs = next(iter(from_scratch(len(task.train)).values())).epochs
    titles = {
        "source": (f"From {start}", _origin(source.card)),
        "control": ("From its natural twin (control)", _origin(control.card) if control is not None else ""),
        "scratch": (
            "From scratch, on the same images",
            f"{source.card.network.name} from random weights, {epochs:g} epochs in batches of {BATCH}",
        ),
    }
    found = []
    for group, (title, what) in titles.items():
        if rows := [row for row in figures if row["group"] == group]:
            found.append({"key": group, "title": title, "what": what, "rows": rows})
    return found


def _origin(card: Card) -> str:
    trained = f"for {card.threat}" if card.threat else "without adversarial examples"
    return f"{card.network.name}, {card.method}, trained on {card.data.get('name', 'unknown data')} {trained}"


def _per_class(task: Task) -> str:
    """Number of images of a class, train and val together."""
    counts = torch.cat([task.train.labels, task.val.labels]).bincount(minlength=task.num_classes)
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def _caveat(named: dict[str, str]) -> list[str]:
    if named["data"] != "builtin:digits":
        return []
    return [
        "Digits are here because they come with the installation, and 10 a class is the default because transfer is for "
        "those who have few images; with more (--shots) or other data any order may be another. Digits are easy, and far "
        "from natural images: this page shows the road, not what to expect elsewhere. For natural images see docs/results.md."
    ]


def _next(named: dict[str, str]) -> dict[str, str]:
    own, origin = named["data"] != "builtin:digits", shlex.quote(named["source"])
    if not own:
        return {
            "next_text": "The same page for your own images (a folder with train/<class>/*.png and test/<class>/*.png, or "
            "parquet files):",
            "next_command": f"robust-transfer demo --source {origin} --data path/to/your/images --out demo-mine",
        }
    target = shlex.quote(named["data"])
    return {
        "next_text": "The strategy is one word, its settings are --set key=value, and the evaluation is separate.",
        "next_command": f"robust-transfer transfer --source {origin} --data {target} --strategy lwf --out runs/lwf\n"
        f"robust-transfer evaluate runs/lwf --data {target}",
    }


def _most_frequent(task: Task, evaluation: Evaluation) -> str:
    return task.class_names[int(evaluation.outcomes["label"].mode()[0])]


def _gallery(rows: Sequence[Row], test: Split, threat: Threat) -> list[dict[str, Any]]:
    """Attacked image of each of the first classes, a broken one if possible, with every network's verdict."""
    first = rows[0].evaluation.outcomes
    fates = [row.evaluation.outcomes.set_index("index")["broken_by"].reindex(first["index"]) for row in rows]
    telling = np.any([~fate.isin([SURVIVED, CLEAN]).to_numpy() for fate in fates], axis=0)
    ordered = first.assign(telling=telling).sort_values("telling", ascending=False, kind="stable")
    chosen = ordered.groupby("label")["index"].first().iloc[:PICTURES].tolist()
    row_of = {number: row for row, number in enumerate(test.ids.tolist())}
    images = test.subset(torch.tensor([row_of[number] for number in chosen]))
    x = to_pixels(images.images())
    scale = max(1, 64 // x.shape[-1])
    lines: list[dict[str, Any]] = [
        {"clean": png(image, scale=scale), "label": test.class_names[int(label)], "cells": []}
        for image, label in zip(x, images.labels, strict=True)
    ]
    for row in rows:
        assert row.deltas is not None  # kept of each group's first row
        outcomes, kept = row.evaluation.outcomes.set_index("index"), row.deltas.set_index("index")
        for line, number, before in zip(lines, chosen, x, strict=True):
            after = before  # misclassified clean images need no attack
            if number in kept.index:
                [after] = unpack(kept.loc[[number]].reset_index(), before[None], threat)
            fate = outcomes.loc[number]
            stands, guess = fate["broken_by"] == SURVIVED, fate["adversarial_prediction"]
            cell = {"attacked": png(after, scale=scale), "delta": png(0.5 + 10 * (after - before), scale=scale)}
            line["cells"].append({**cell, "verdict": test.class_names[int(guess)], "stands": stands})
    return lines
