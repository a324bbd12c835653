"""How well `rank` orders sources: its predictions beside what the study `rank` measured, as rank correlations.

    robust-transfer study rank --data NAME=PATH ... --out STUDY [--scale smoke]
    python benchmarks/ranking.py STUDY --data NAME=PATH ... --rows FILE [--scale smoke]
    python benchmarks/ranking.py --rows FILE

The first command trains the sources, transfers and attacks; it goes on where it was stopped. The second predicts for each row
of its table, and adds a line to FILE for each that is not there. The third only computes the correlations again. Of a study
that is not finished it takes the sources that have been transferred to every target.

The pooled figure is the mean over the targets. Intervals are 95 % percentiles of a bootstrap over the sources, the same ones
for all targets: 12 sources or fewer leave them wide.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import header
from numpy.typing import NDArray
from scipy.stats import rankdata

from robust_transfer.checkpoint import CARD
from robust_transfer.environment import command_line
from robust_transfer.evaluation import evaluate
from robust_transfer.ranking import rank
from robust_transfer.ranking.own_shift import own_shifts
from robust_transfer.run import Run
from robust_transfer.study import load_recipe
from robust_transfer.study.recipe import Recipe
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop
from robust_transfer.threat import Threat

OWN = 200  # test images of a source's own data, on which it is attacked at the same threat
RESAMPLES = 2000
PREDICTORS = {  # of each accuracy; the last three know nothing of the target
    "clean": ("predicted_clean", "minus_log_loss", "logme", "own_clean", "own_robust", "eps"),
    "robust": ("first_order", "by_shift", "predicted_clean", "logme", "own_clean", "own_robust", "eps"),
}


def predict(recipe: Recipe, study: Path, run: Run, file: Path) -> None:
    """Add a row to ``file`` for each source and target that it lacks: what was measured, predictions, the source itself."""
    table = whole(pd.read_parquet(study / "table.parquet"))
    workshop = Workshop(recipe, Store(study), run)
    names = list(dict.fromkeys(table["source"]))
    threats = {str(each) for each in table["threat"]}
    [threat] = threats  # one for all, or accuracies could not be compared
    for name in names:
        if not (workshop.store.folder("sources", workshop.source_key(name)) / CARD).is_file():
            raise SystemExit(
                f"the study has no source {name} under these conditions: give its --precision, --data and --scale"
            )
    sources = {name: workshop.source(name) for name in names}
    made = {(row["source"], row["task"]): row for row in read(file)}
    own = {name: row for (name, _), row in made.items()}
    for target, cells in table.groupby("task", sort=False):
        shots = cells["shots"].iloc[0]
        task = workshop.task(str(target), None if pd.isna(shots) else int(shots), int(cells["seed"].iloc[0]))
        for cell in cells.to_dict("records"):
            name = str(cell["source"])
            if (name, target) in made:
                continue
            if name not in own:
                own[name] = of_its_own(workshop, recipe, name, threat, run)
            begun = time.process_time()
            found = rank(task, sources=[sources[name]], threat=threat, run=run)
            cpu = time.process_time() - begun
            one = found.best
            assert one.shift is not None
            row = {
                **{key: cell[key] for key in ("source", "task", "seed", "clean", "robust", "n", "attack", "threat")},
                "predicted_clean": one.clean.value,
                "minus_log_loss": -one.log_loss,
                "logme": one.logme,
                "first_order": one.robust.value,
                "by_shift": one.shift.robust,
                "median_shift": one.shift.median,
                "median_allowed": one.shift.allowed,
                **{key: own[name][key] for key in ("own_clean", "own_robust", "eps")},
                "n_train": found.n_train,
                "n_val": found.n_val,
                "cpu_seconds": round(cpu, 2),
                "commit": cell["commit"],
            }
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
            print(f"  {name} to {target}: {cpu:.1f} s of CPU time", flush=True)


def read(file: Path) -> list[dict[str, Any]]:
    """Rows of a file; none where there is no file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the sources that have figures for every target."""
    made = table[table["robust"].notna()]
    counts = made.groupby("source")["task"].nunique()
    kept: pd.DataFrame = made[made["source"].isin(counts[counts == made["task"].nunique()].index)]
    return kept


def of_its_own(workshop: Workshop, recipe: Recipe, name: str, threat: str, run: Run) -> dict[str, float]:
    """Accuracies of a source on its own data at the common threat, and the eps that it was trained with."""
    how = recipe.sources[name].pretrain
    assert how is not None
    source = workshop.source(name)
    task = workshop.task(how.task, None, how.seed)
    if (
        own_shifts(source, [task], Threat.parse(threat), run) is None
    ):  # measured here, once, and known to `rank` from now on
        raise SystemExit(f"{name} keeps no fingerprints of {how.task}")
    found = evaluate(
        source,
        task.test,
        threat=threat,
        attack="pgd-20",
        examples=OWN,
        run=run,
        red_flag_examples=0,
        transfer_attack_examples=0,
    )
    eps = Threat.parse(how.threat).eps if source.card.threat is not None else 0.0
    return {"own_clean": found.clean_accuracy.value, "own_robust": found.robust_accuracy.value, "eps": eps}


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, ties by mean ranks; nan where one of the two is constant."""
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else float("nan")


def over_sources(
    statistic: Callable[[NDArray[np.intp]], float], sources: int, seed: int = 0
) -> tuple[float, float, float]:
    """``statistic`` of all sources, and its 95 % percentiles over bootstrap resamples of them (those where it is defined)."""
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(rng.integers(0, sources, sources)) for _ in range(RESAMPLES)])
    defined = drawn[np.isfinite(drawn)]
    low, high = np.quantile(defined, [0.025, 0.975]) if len(defined) else (np.nan, np.nan)
    return statistic(np.arange(sources)), float(low), float(high)


def correlations(rows: pd.DataFrame) -> list[tuple[str, str, str, float, float, float]]:
    """Accuracy, predictor, target ("all": the mean over targets), rank correlation and its interval."""
    names, found = sorted(set(rows["source"])), list[tuple[str, str, str, float, float, float]]()
    targets = list(dict.fromkeys(rows["task"]))
    for accuracy, predictors in PREDICTORS.items():
        for predictor in predictors:
            pairs = {}
            for target in targets:
                of = rows[rows["task"] == target].set_index("source").loc[names]
                pairs[target] = of[predictor].to_numpy(float), of[accuracy].to_numpy(float)
            for which in ([*targets], *([target] for target in targets)):
                own = [pairs[target] for target in which]

                def mean(drawn: NDArray[np.intp], own: Sequence[Any] = own) -> float:
                    return float(np.mean([spearman(x[drawn], y[drawn]) for x, y in own]))

                label = which[0] if len(which) == 1 and len(targets) > 1 else "all"
                found.append((accuracy, predictor, label, *over_sources(mean, len(names))))
    return found


def lost(rows: pd.DataFrame, accuracy: str, predictor: str) -> float:
    """Points of accuracy lost by taking the source that the predictor has first, mean over targets; ties share."""
    losses = []
    for _, of in rows.groupby("task"):
        first = of[of[predictor] == of[predictor].max()]
        losses.append(of[accuracy].max() - first[accuracy].mean())
    return float(100 * np.mean(losses))


def told(rows: pd.DataFrame) -> str:
    """Markdown tables of correlations, and of what is lost by each predictor's first choice."""
    targets = list(dict.fromkeys(rows["task"]))
    cells = {(a, p, t): (value, low, high) for a, p, t, value, low, high in correlations(rows)}
    lines = []
    for accuracy, predictors in PREDICTORS.items():
        lines += ["", f"| {accuracy}: predictor | all targets | " + " | ".join(targets) + " | points lost |"]
        lines.append("|---" * (len(targets) + 3) + "|")
        for predictor in predictors:
            value, low, high = cells[accuracy, predictor, "all"]
            each = " | ".join(f"{cells[accuracy, predictor, t if len(targets) > 1 else 'all'][0]:.2f}" for t in targets)
            lines.append(
                f"| {predictor} | {value:.2f} [{low:.2f}, {high:.2f}] | {each} | {lost(rows, accuracy, predictor):.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, help="the folder of the study")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="as the study has it")
    parser.add_argument("--scale", default="laptop", help="as the study has it")
    parser.add_argument("--rows", type=Path, required=True, help="the file of rows, JSON lines")
    parser.add_argument("--precision", default="auto", help="as the study has it")
    given = parser.parse_args()
    if given.study is not None:
        places = dict(pair.split("=", 1) for pair in given.data)
        recipe = load_recipe("rank", scale=given.scale, data=places)
        run = Run(quiet=True, threads=1, precision=given.precision)
        header("rank beside what was measured", command=command_line())
        predict(recipe, given.study, run, given.rows)
    if not (rows := read(given.rows)):
        parser.error(f"{given.rows} has no rows: give the study's folder")
    table = pd.DataFrame(rows)
    print(
        f"\n{table['source'].nunique()} sources, {table['task'].nunique()} targets, {int(table['n'].median())} test images each"
    )
    print(f"CPU seconds a source, median {table['cpu_seconds'].median():.1f}, most {table['cpu_seconds'].max():.1f}")
    print(told(table))


if __name__ == "__main__":
    main()
