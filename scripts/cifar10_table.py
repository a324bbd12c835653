"""From the folder that `scripts/cifar10.py` filled to docs/cifar10.json, docs/cifar10.svg and the tables for docs/results.md.

    python scripts/cifar10_table.py --runs runs/cifar10 --out docs

Prints the Markdown. Everything is computed from per-example outcomes; nothing is typed in.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robust_transfer.report.plots import svg

EIGHT, FOUR = "linf-8-255", "linf-4-255"
RESAMPLES = 2000


def read(runs: Path) -> dict[str, dict[str, Any]]:
    """``{cell: {"evaluation": {threat: dict}, "clean": (n,), threat: (n,), "card": dict}}``, in order of the name."""
    cells: dict[str, dict[str, Any]] = defaultdict(lambda: {"evaluation": {}})
    for file in sorted(runs.rglob("evaluation.json")):
        threat, folder = file.parent.name, file.parent.parent
        cell = cells[str(folder.relative_to(runs))]
        outcomes = pd.read_parquet(file.parent / "outcomes.parquet").sort_values("index")
        cell["evaluation"][threat] = json.loads(file.read_text())
        cell["clean"] = (outcomes["clean_prediction"] == outcomes["label"]).to_numpy()
        cell[threat] = (outcomes["broken_by"] == "").to_numpy()
        cell["index"] = outcomes["index"].to_numpy()
        cell["card"] = json.loads((folder / "card.json").read_text())
    return dict(cells)


def percent(figure: dict[str, float]) -> str:
    return f"{100 * figure['value']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def table(cells: dict[str, dict[str, Any]], pattern: str, title: str) -> list[str]:
    rows = [
        f"### {title}",
        "",
        "| cell | clean, % | PGD-20 8/255, % | PGD-20 4/255, % | cost, image passes | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, cell in cells.items():
        if not re.match(pattern, name) or not {EIGHT, FOUR} <= set(cell["evaluation"]):
            continue
        eight, four = cell["evaluation"][EIGHT], cell["evaluation"][FOUR]
        figures = " | ".join(
            percent(f) for f in (eight["clean_accuracy"], eight["robust_accuracy"], four["robust_accuracy"])
        )
        rows.append(f"| {name} | {figures} | {cell['card']['cost']:.3g} | {cell['card']['seconds']:.0f} |")
    constant = next(iter(cells.values()))["evaluation"][EIGHT]["constant_accuracy"]
    rows.append(f"| constant classifier | {100 * constant:.1f} | {100 * constant:.1f} | {100 * constant:.1f} | 0 | 0 |")
    return [*rows, ""] if len(rows) > 5 else []


def gap(curve: list[dict[str, Any]], points: list[dict[str, Any]], threat: str) -> dict[str, float]:
    """Clean accuracy of ``points`` (one a seed) above the piecewise linear ``curve`` at equal robust accuracy.

    Nested paired bootstrap: seeds, then images; the curve is drawn anew on each resample of images.
    """
    clean = np.stack([c["clean"] for c in [*curve, *points]], axis=1).astype(np.float64)
    robust = np.stack([c[threat] for c in [*curve, *points]], axis=1).astype(np.float64)
    n, m = len(clean), len(curve)

    def above(weights: np.ndarray, seeds: np.ndarray) -> float:
        x, y = weights @ robust, weights @ clean
        order = np.argsort(x[:m])
        return float(np.mean([y[m + s] - np.interp(x[m + s], x[:m][order], y[:m][order]) for s in seeds]))

    generator = np.random.default_rng(0)
    seeds = np.arange(len(points))
    value = above(np.full(n, 1 / n), seeds)
    drawn = [
        above(generator.multinomial(n, np.full(n, 1 / n)) / n, generator.choice(seeds, len(seeds)))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"value": value, "low": float(low), "high": float(high), "n": n, "seeds": len(points)}


def seeds_of(cells: dict[str, dict[str, Any]], stem: str) -> list[dict[str, Any]]:
    return [c for name, c in cells.items() if re.fullmatch(re.escape(stem) + r"-s\d+", name)]


def fronts(cells: dict[str, dict[str, Any]], runs: Path) -> tuple[list[str], dict[str, Any]]:
    curve = [c for name, c in cells.items() if name.startswith("curve/probe/l2-")]
    choice = runs / "curve/lwf/choice.json"
    if len(curve) < 2 or not choice.exists():
        return [], {}
    figures = json.loads(choice.read_text())
    best = max(figures["figures"], key=lambda s: figures["figures"][s]["robust_accuracy"])
    points = [*seeds_of(cells, f"curve/lwf/strength-{best}"), *seeds_of(cells, "curve/lwf/chosen")]
    found = {threat: gap(curve, points, threat) for threat in (EIGHT, FOUR)}
    lines = ["### LwF above the probe's curve", ""]
    for threat, value in found.items():
        lines.append(
            f"- {threat}: strength {best}, chosen on val PGD-10 like the probe's L2, {value['seeds']} seeds: "
            f"{100 * value['value']:+.1f} points of clean accuracy [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}] "
            f"above the probe's curve at equal PGD-20 accuracy (n = {value['n']})"
        )
    return [*lines, ""], {"gap": found, "choice": figures}


def plot(cells: dict[str, dict[str, Any]], path: Path) -> None:
    groups = {
        "linear probe over L2": r"curve/probe/l2-", "LwF over strength": r"curve/lwf/", "fine-tuning": r"curve/fine-tune",
        "interpolation": r"curve/interpolation", "natural twin": r"natural/full",
    }  # fmt: skip
    with matplotlib.rc_context({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "robust-transfer"}):
        figure = Figure(figsize=(9, 4), layout="constrained")
        for axes, threat in zip(figure.subplots(1, 2, sharey=True), (EIGHT, FOUR), strict=True):
            for (label, pattern), marker in zip(groups.items(), "os^dx", strict=True):
                xy = sorted(
                    (c[threat].mean() * 100, c["clean"].mean() * 100)
                    for name, c in cells.items()
                    if re.match(pattern, name)
                )
                if xy:
                    axes.plot(
                        *zip(*xy, strict=True),
                        marker=marker,
                        lw=1,
                        ms=5,
                        label=label,
                        ls="" if "twin" in label else "-",
                    )
            axes.set_xlabel(f"PGD-20 accuracy at {threat[5:].replace('-', '/')}, %")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
        figure.axes[0].set_ylabel("clean accuracy, %")
        figure.axes[0].legend(frameon=False, fontsize=8)
        path.write_text(svg(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    cells = read(given.runs)
    if not cells:
        raise SystemExit(f"no evaluations under {given.runs}: run scripts/cifar10.py first")
    lines, found = fronts(cells, given.runs)
    for pattern, title in (
        (r"curve/", "Curves, 25,000 training images"),
        (r"natural/full", "From the natural twin, 25,000 training images"),
        (r".*/shots-10/", "10 images a class"),
        (r".*/shots-50/", "50 images a class"),
    ):
        lines += table(cells, pattern, title)
    given.out.mkdir(parents=True, exist_ok=True)
    summary = {name: {"card": c["card"], "evaluation": c["evaluation"]} for name, c in cells.items()}
    (given.out / "cifar10.json").write_text(json.dumps({"cells": summary, **found}, indent=1) + "\n")
    plot(cells, given.out / "cifar10.svg")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
