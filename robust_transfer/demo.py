"""The demo: the whole road on one page. It shows how the pieces fit; every sentence is generated from what it measured."""

from __future__ import annotations

import shlex
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import as_dict
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.drawing import png, render, scatter
from robust_transfer.drawing.plots import Point
from robust_transfer.environment import environment
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.evaluation import Evaluation, evaluate
from robust_transfer.evaluation.deltas import DELTAS, unpack
from robust_transfer.evaluation.outcomes import CLEAN, STANDING
from robust_transfer.files import write_json, write_text
from robust_transfer.run import Run
from robust_transfer.strategies import FineTune, LinearProbe, LwF, Strategy
from robust_transfer.threat import Threat

ATTACK = "pgd-20"
PICTURES = 5
STRATEGIES: dict[str, Strategy] = {
    "linear-probe": LinearProbe(),
    "fine-tune": FineTune(head="new"),
    "lwf": LwF(head="new"),
}


@dataclass(frozen=True)
class Row:
    """One strategy's line of the table."""

    name: str
    evaluation: Evaluation
    deltas: pd.DataFrame
    seconds: float

    def figures(self) -> dict[str, Any]:
        """For the table: name, clean and robust as ``{value, low, high, n}``, seconds."""
        clean, robust = as_dict(self.evaluation.clean_accuracy), as_dict(self.evaluation.robust_accuracy)
        return {"name": self.name, "clean": clean, "robust": robust, "seconds": self.seconds}


def run_demo(
    source: Checkpoint, task: Task, *, data: str, examples: int, run: Run, source_name: str = "bundled"
) -> Path:
    """Transfer ``source`` to ``task`` by each strategy, attack the results, and write ``index.html`` under ``run.out``.

    ``examples`` test images (a stratified subset) are attacked by PGD-20 at the source's threat. Returns the page's path.
    """
    if run.out is None:
        raise DataError("the demo writes a page: give it an output folder")
    if examples < 1:
        raise ConfigError(f"examples must be at least 1, not {examples}")
    run.check_out()
    started = time.perf_counter()
    threat = Threat.parse(source.card.threat or "linf:8/255")
    task = task.at_size(source.input_size)
    out = run.prepare_out() or run.out
    console = Console(stderr=True, quiet=run.quiet)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        inner = replace(run, out=None, overwrite=False, cache=Path(folder) / "shared")
        for name, strategy in STRATEGIES.items():
            console.print(f"{name}: training on {len(task.train)} natural images ...")
            begun = time.perf_counter()
            result = strategy(source, task, run=inner)
            seconds = time.perf_counter() - begun
            console.print(f"{name}: attacking {min(examples, len(task.test))} test images ...")
            kept = replace(inner, out=Path(folder) / name)
            measured = evaluate(
                result, task.test, threat=threat, attack=ATTACK, examples=examples, run=kept, transfer_attack_examples=0,
                red_flag_examples=0,
                keep_deltas=True,
            )  # fmt: skip
            deltas = pd.read_parquet(Path(folder) / name / DELTAS)
            rows.append(Row(name, measured, deltas, seconds))
    named = {"source": source_name, "data": data}
    page = _page(rows, source, task, named, threat, run, time.perf_counter() - started)
    write_json(
        out / "table.json", {"rows": [r.figures() for r in rows], "evaluations": [r.evaluation.to_dict() for r in rows]}
    )
    write_text(out / "index.html", page)
    return out / "index.html"


def sentences(rows: list[dict[str, Any]], constant: float, n: int) -> list[str]:
    """What the table says, in words: orderings only where the 95 % intervals do not overlap, and the constant row's place."""
    said = []
    for key, word in (("clean", "accurate on clean images"), ("robust", "robust")):
        best, worst = (pick(rows, key=lambda r: r[key]["value"]) for pick in (max, min))
        gap = 100 * (best[key]["value"] - worst[key]["value"])
        if best[key]["low"] > worst[key]["high"]:
            said.append(
                f"Most {word}: {best['name']} ({100 * best[key]['value']:.1f} %); least: {worst['name']} "
                f"({100 * worst[key]['value']:.1f} %), {gap:.1f} points apart with intervals that do not overlap."
            )
        else:
            said.append(
                f"On {n} images the strategies are not clearly different in how {word} they are ({gap:.1f} points apart)."
            )
    below = [r["name"] for r in rows if r["robust"]["low"] <= constant]
    above = [r["name"] for r in rows if r["robust"]["low"] > constant]
    if above:
        said.append(
            f"Under attack, clearly better than saying one class always ({100 * constant:.1f} %): {', '.join(above)}."
        )
    if below:
        said.append(f"Under attack, not clearly better than saying one class always: {', '.join(below)}.")
    return said


def _page(
    rows: list[Row], source: Checkpoint, task: Task, named: dict[str, str], threat: Threat, run: Run, seconds: float
) -> str:
    first = rows[0].evaluation
    n, constant = first.clean_accuracy.n, first.constant_accuracy
    figures = [row.figures() for row in rows]
    points = [
        Point(f["name"], *(tuple(f[k][v] for v in ("value", "low", "high")) for k in ("clean", "robust")))
        for f in figures
    ]
    made = environment()
    versions = ", ".join(
        f"{k} {v}" for k, v in made["versions"].items() if k in ("python", "torch", "timm", "robust-transfer")
    )
    notes = " ".join(f"{note[0].upper()}{note[1:].rstrip('.')}." for note in task.notes)
    own = named["data"] != "builtin:digits"
    target = shlex.quote(named["data"]) if own else "path/to/your/images"
    origin = shlex.quote(named["source"])
    return render(
        "demo.html",
        task={"name": task.name, "train": len(task.train), "val": len(task.val), "notes": notes},
        source=f"{source.card.network.name}, {source.card.method}, {source.card.data.get('name', 'unknown data')}, "
        f"trained for {source.card.threat or 'no threat'}",
        n=n,
        attack=first.attack,
        threat=str(threat),
        seed=run.seed,
        rows=figures,
        constant=constant,
        constant_class=_most_frequent(task, first),
        sentences=sentences(figures, constant, n)
        + (
            []
            if own
            else [
                "Digits are easy, and far from natural images: this page shows the road, not what to expect elsewhere."
            ]
        ),
        plot=scatter(points, constant=constant, threat=str(threat)),
        names=[row.name for row in rows],
        gallery=_gallery(rows, task.test, threat),
        magnify=10,
        next_text="The strategy is one word, its settings are --set key=value, and the evaluation is separate."
        if own
        else "The same page for your own images (a folder with train/<class>/*.png and test/<class>/*.png, or parquet files):",
        next_command=f"robust-transfer transfer --source {origin} --data {target} --strategy lwf --out runs/lwf\n"
        f"robust-transfer evaluate runs/lwf --data {target}"
        if own
        else f"robust-transfer demo --source {origin} --data {target} --out demo-mine",
        versions=versions,
        hardware=f"{made['hardware']['cpu']}, {made['hardware']['threads']} threads",
        total_seconds=round(seconds),
    )


def _most_frequent(task: Task, evaluation: Evaluation) -> str:
    return task.class_names[int(evaluation.outcomes["label"].mode()[0])]


def _gallery(rows: list[Row], test: Split, threat: Threat) -> list[dict[str, Any]]:
    """An attacked image of each of the first classes, broken where one is, and what became of it on every network."""
    first = rows[0].evaluation.outcomes
    fates = [row.evaluation.outcomes.set_index("index")["broken_by"].reindex(first["index"]) for row in rows]
    telling = np.any([~fate.isin([STANDING, CLEAN]).to_numpy() for fate in fates], axis=0)
    ordered = first.assign(telling=telling).sort_values("telling", ascending=False, kind="stable")
    chosen = ordered.groupby("label")["index"].first().iloc[:PICTURES].tolist()
    place = {number: row for row, number in enumerate(test.ids.tolist())}
    images = test.subset(torch.tensor([place[number] for number in chosen]))
    x = to_pixels(images.images())
    scale = max(1, 64 // x.shape[-1])
    lines: list[dict[str, Any]] = [
        {"clean": png(image, scale=scale), "label": test.class_names[int(label)], "cells": []}
        for image, label in zip(x, images.labels, strict=True)
    ]
    for row in rows:
        outcomes, kept = row.evaluation.outcomes.set_index("index"), row.deltas.set_index("index")
        for line, number, before in zip(lines, chosen, x, strict=True):
            after = before  # of what is wrong when clean no attack is needed
            if number in kept.index:
                [after] = unpack(kept.loc[[number]].reset_index(), before[None], threat)
            fate = outcomes.loc[number]
            stands, guess = fate["broken_by"] == STANDING, fate["adversarial_prediction"]
            cell = {"attacked": png(after, scale=scale), "delta": png(0.5 + 10 * (after - before), scale=scale)}
            line["cells"].append({**cell, "verdict": test.class_names[int(guess)], "stands": stands})
    return lines
