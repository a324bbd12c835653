"""From the folder that `scripts/cifar10.py` filled to docs/cifar10.{json,svg}, docs/cifar10_outcomes.parquet and tables.

    python scripts/cifar10_table.py --runs runs/cifar10 --out docs

Prints the Markdown of docs/results.md. Everything is computed from per-example outcomes; nothing is typed in. Cells that
are published in `--out` already, of the same source, stay unless the folder has them too.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cifar10 import best_on_val
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robust_transfer.drawing.plots import COLOURS, style, svg, tidy
from robust_transfer.statistics.frontier_gain import above_front, place
from robust_transfer.statistics.intervals import Difference, paired_bootstrap, wilson
from robust_transfer.statistics.resampling import Correctness

EIGHT, FOUR = "linf-8-255", "linf-4-255"
LEVELS = {"clean": "clean", EIGHT: "PGD-20 8/255", FOUR: "PGD-20 4/255"}
RESAMPLES = 2000
CARD = ("method", "settings", "criterion", "cost", "adversarial_examples", "seconds", "seed", "source", "events")


class Study:
    """Collected cells: ``cells`` (card, figures and choices of each), and ``right[level][cell]``, one bool per image."""

    def __init__(self, out: Path, runs: Path) -> None:
        self.about: dict[str, Any] = json.loads((runs / "study.json").read_text())
        self.cells: dict[str, dict[str, Any]] = {}
        self.right: dict[str, NDArray[np.bool_]] = {}
        self._published(out)
        for file in sorted(runs.rglob(f"{EIGHT}/evaluation.json")):
            if (file.parent.parent / FOUR / "evaluation.json").exists():
                self._read(file.parent.parent, runs)

    def _published(self, out: Path) -> None:
        if not (out / "cifar10.json").exists():
            return
        published = json.loads((out / "cifar10.json").read_text())
        if published["source"] != self.about["source"]:
            return
        self.about["twin"] = self.about["twin"] or published["twin"]
        self.cells = published["cells"]
        table = pd.read_parquet(out / "cifar10_outcomes.parquet")
        self.right = {str(column): table[column].to_numpy() for column in table}

    def _read(self, folder: Path, runs: Path) -> None:
        name = str(folder.relative_to(runs))
        card = json.loads((folder / "card.json").read_text())
        cell: dict[str, Any] = {"card": {key: card[key] for key in CARD}, "evaluation": {}}
        for threat in (EIGHT, FOUR):
            outcomes = pd.read_parquet(folder / threat / "outcomes.parquet").sort_values("index")
            found = json.loads((folder / threat / "evaluation.json").read_text())
            del found["command"]  # it has paths of the machine; docs/results.md has the commands
            cell["evaluation"][threat] = found
            self.right[f"{name}/clean"] = (outcomes["clean_prediction"] == outcomes["label"]).to_numpy()
            self.right[f"{name}/{threat}"] = (outcomes["broken_by"] == "").to_numpy()
        if (folder / "val.json").exists():
            cell["val"] = json.loads((folder / "val.json").read_text())
        self.cells[name] = cell

    def named(self, pattern: str) -> list[str]:
        return sorted((name for name in self.cells if re.fullmatch(pattern, name)), key=_natural)

    def stack(self, names: list[str], level: str) -> NDArray[np.float64]:
        """Correctness of each image, ``(cells, n)``."""
        return np.stack([self.right[f"{name}/{level}"] for name in names]).astype(np.float64)

    def rights(self, names: list[str], level: str) -> list[Correctness]:
        """The cells' images, clean and at ``level``."""
        return [Correctness(self.right[f"{name}/clean"], self.right[f"{name}/{level}"]) for name in names]

    def save(self, out: Path, found: dict[str, Any]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**self.about, "found": found, "cells": dict(sorted(self.cells.items()))}, indent=1)
        (out / "cifar10.json").write_text(text + "\n")
        pd.DataFrame(dict(sorted(self.right.items()))).to_parquet(
            out / "cifar10_outcomes.parquet", compression="zstd", index=False
        )


def _natural(name: str) -> list[Any]:
    """Numbers in the order of their size."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-\d+)?)", name)
    return [(0, float(part), "") if i % 2 else (1, 0.0, part) for i, part in enumerate(parts)]


# ---------------------------------------------------------------- tables


def share(study: Study, names: list[str], level: str) -> str:
    """The mean over seeds with its 95 % interval: Wilson's for one seed, else a bootstrap of seeds and images."""
    right = study.stack(names, level)
    if len(names) == 1:
        found: Any = wilson(int(right.sum()), right.shape[1])
    else:
        found = paired_bootstrap(list(right), resamples=RESAMPLES)
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def table(study: Study, pattern: str, title: str) -> list[str]:
    """A row for each method under ``pattern``, its seeds taken together."""
    methods: dict[str, list[str]] = {}
    for name in study.named(pattern):
        methods.setdefault(name.rpartition("-s")[0], []).append(name)
    if not methods:
        return []
    heads = " | ".join(f"{title}, %" for title in LEVELS.values())
    rows = [f"### {title}", "", f"| what | seeds | {heads} | image passes | seconds |", "|---|---|---|---|---|---|---|"]
    for method, names in methods.items():
        figures = " | ".join(share(study, names, level) for level in LEVELS)
        cost, seconds = (np.mean([study.cells[n]["card"][key] for n in names]) for key in ("cost", "seconds"))
        rows.append(f"| {method.removeprefix('curve/')} | {len(names)} | {figures} | {cost:.2g} | {seconds:.0f} |")
    constant = constant_share(study)
    rows.append(f"| constant classifier | | {' | '.join([f'{100 * constant:.1f}'] * 3)} | 0 | 0 |")
    return [*rows, ""]


def constant_share(study: Study) -> float:
    evaluation = next(iter(study.cells.values()))["evaluation"][EIGHT]
    return float(evaluation["constant_accuracy"])


# ---------------------------------------------------------------- claims


def gap(study: Study, curve: list[str], points: list[str], level: str) -> Difference:
    """Clean accuracy of ``points`` (one a seed) above the ``curve`` at equal accuracy at ``level``."""
    return above_front(study.rights(points, level), [study.rights(curve, level)])


ABOVE = {
    "on": "clean accuracy above the probe's whole curve at equal {level} accuracy",
    "above": "more robust than every probe ({level}), and more accurate than the most robust one by",
}


def claims(study: Study) -> tuple[list[str], dict[str, Any]]:
    """Verdicts on the expectations, as lines and as figures; cells that have not been run are left out."""
    lines, found = ["### What it says", ""], dict[str, Any]()
    constant = constant_share(study)

    def say(key: str, text: str, value: Difference | float) -> None:
        shown = str(value) if isinstance(value, Difference) else f"{100 * value:.1f} %"
        found[key] = vars(value) if isinstance(value, Difference) else value
        lines.append(f"- {text}: {shown}")

    for name in study.named(r"curve/fine-tune-s0"):
        say("fine-tune", "fine-tuning from the robust source, PGD-20 at 8/255", study.right[f"{name}/{EIGHT}"].mean())
    natural = study.named(r"natural/full/.*")
    if natural:
        worst = max(float(study.right[f"{name}/{EIGHT}"].mean()) for name in natural)
        say("twin", "from the natural twin, the most robust of the three strategies, PGD-20 at 8/255", worst)
    for shots in (10, 50):
        probe = study.named(rf"robust/shots-{shots}/linear-probe-s\d+")
        scratch = study.named(rf"scratch/shots-{shots}/fast-s\d+")
        if probe:
            ours = study.stack(probe, FOUR)
            over = paired_bootstrap(list(ours - constant), resamples=RESAMPLES)
            say(f"probe-{shots}-constant", f"{shots} a class, probe less the constant row, PGD-20 at 4/255", over)
        if probe and len(scratch) == len(probe):
            over = paired_bootstrap(list(ours - study.stack(scratch, FOUR)), resamples=RESAMPLES)
            text = f"{shots} a class, probe less adversarial training from scratch, PGD-20 at 4/255"
            say(f"probe-{shots}-scratch", text, over)
    curve, held = study.named(r"curve/probe/l2-.*-s0"), study.named(r"curve/lwf/.*-s0")
    if len(curve) > 1 and held:
        best = best_on_val({name: study.cells[name]["val"] for name in held}).removesuffix("-s0")
        points = study.named(rf"{re.escape(best)}-s\d+")
        found["chosen"] = {
            "probe": best_on_val({name: study.cells[name]["val"] for name in curve}),
            "lwf": f"{best}-s0",
        }
        for level in (EIGHT, FOUR):
            what = f"LwF ({best.removeprefix('curve/lwf/')}, chosen on val; {len(points)} seeds)"
            where = place(study.rights(points, level), [study.rights(curve, level)])
            if where in ABOVE:
                say(
                    f"lwf-{level}",
                    f"{what}, {ABOVE[where].format(level=LEVELS[level])}",
                    gap(study, curve, points, level),
                )
        for name in held:
            shown = name.removeprefix("curve/")
            if (where := place(study.rights([name], EIGHT), [study.rights(curve, EIGHT)])) not in ABOVE:
                lines.append(
                    f"- {shown}, one seed: less robust at 8/255 than every probe, so there is none to compare it with"
                )
                continue
            value = gap(study, curve, [name], EIGHT)
            lines.append(f"- {shown}, one seed, {ABOVE[where].format(level=LEVELS[EIGHT])}: {value}")
            found[f"{name}-above"] = vars(value)
    return [*lines, ""], found


# ---------------------------------------------------------------- plot


def plot(study: Study, path: Path) -> None:
    heads = sorted({re.split("[-/]", name)[3] for name in study.named(r"curve/lwf/.*-s0")}, key=float, reverse=True)
    series: dict[str, tuple[str, str]] = {
        "linear probe over L2": (r"curve/probe/l2-.*-s0", "-"),
        **{f"LwF over its strength, head L2 {l2}": (rf"curve/lwf/l2-{l2}/.*-s0", "-") for l2 in heads},
        "fine-tuning": (r"curve/fine-tune-s0", ""),
        "probe to fine-tuned, interpolated": (r"curve/interpolation/.*", ":"),
        "natural twin, three strategies": (r"natural/full/.*", ""),
    }
    with style():
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        for axes, level in zip(figure.subplots(1, 2, sharey=True), (EIGHT, FOUR), strict=True):
            for (label, (pattern, line)), marker, colour in zip(series.items(), "os^vDdx", COLOURS, strict=False):
                xy = [
                    (100 * study.right[f"{n}/{level}"].mean(), 100 * study.right[f"{n}/clean"].mean())
                    for n in study.named(pattern)
                ]
                if xy:
                    axes.plot(*zip(*xy, strict=True), marker=marker, lw=1, ms=5, label=label, ls=line, color=colour)
            axes.axvline(100 * constant_share(study), color="#888888", lw=1, ls="--")
            axes.set_xlabel(f"PGD-20 accuracy at {level[5:].replace('-', '/')}, %")
            tidy(axes)
        figure.axes[0].set_ylabel("clean accuracy, %")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        path.write_text(svg(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    study = Study(given.out, given.runs)
    if not study.cells:
        raise SystemExit(f"no evaluations under {given.runs}: run scripts/cifar10.py first")
    lines, found = claims(study)
    lines += table(study, r"curve/.*", "Curves, 25,000 training images")
    lines += table(study, r"natural/full/.*", "From the natural twin, 25,000 training images")
    for shots in (10, 50):
        lines += table(study, rf"(robust|natural|scratch)/shots-{shots}/.*", f"{shots} images a class")
    study.save(given.out, found)
    plot(study, given.out / "cifar10.svg")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
