"""Paired comparison of two results on the same examples, over seeds where there are several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robust_transfer.config import as_dict, expect
from robust_transfer.data.class_names import match_names
from robust_transfer.errors import DataError
from robust_transfer.evaluation import Evaluation, load_evaluation
from robust_transfer.evaluation.outcomes import EVALUATION
from robust_transfer.evaluation.result import Accuracy
from robust_transfer.statistics.intervals import Difference, paired_bootstrap

Result = Evaluation | str | Path
Results = Result | Sequence[Result]
SAME = ("threat", "attack", "split", "input_size", "data_hash")  # what paired evaluations must agree in
LEVELS: tuple[Accuracy, ...] = ("clean", "robust")


@dataclass(frozen=True)
class Paired:
    """One kind of accuracy (clean or robust) of A and B on the same images.

    ``a``, ``b`` are means over seeds of shares in [0, 1]; ``difference`` is B less A with its 95 % interval;
    ``by_seed`` B less A for each seed. ``both``, ``only_a``, ``only_b`` and ``neither`` count images, over all seeds.
    """

    a: float
    b: float
    difference: Difference
    by_seed: tuple[float, ...]
    both: int
    only_a: int
    only_b: int
    neither: int


@dataclass(frozen=True)
class Comparison:
    """B against A: clean and robust accuracy on the same ``n`` images a seed, against ``threat`` by ``attack``."""

    clean: Paired
    robust: Paired
    n: int
    seeds: int
    threat: str
    attack: str
    data_hash: str

    def to_dict(self) -> dict[str, Any]:
        """Comparison as plain JSON types."""
        return {"schema": 1, **as_dict(self)}

    def __str__(self) -> str:
        over = f" over {self.seeds} seeds" if self.seeds > 1 else ""
        lines = [f"B less A on the same {self.n} images{over} ({self.threat}, {self.attack})"]
        for level in LEVELS:
            lines += _describe(level, getattr(self, level))
        return "\n".join(lines)


def compare(a: Results, b: Results, *, seed: int = 0) -> Comparison:
    """Compare two evaluated results, B less A, on the examples that both were evaluated on.

    ``a``, ``b``: an evaluation; a folder that holds one; a folder whose subfolders do, one a seed (``DIR/seed0``,
    ``DIR/seed1``); or a list of these, one a seed. Subfolders are taken in the order of their numbers, lists in their own.
    ``seed`` is the bootstrap's. Raises :class:`DataError` where the two are not evaluations of the same images, labels,
    threat and attack.
    """
    left, right = _evaluations(a), _evaluations(b)
    if len(left) != len(right):
        raise DataError(
            f"A has {len(left)} evaluations and B has {len(right)}: give as many seeds of one as of the other"
        )
    pairs = [_pair(*both) for both in zip(left, right, strict=True)]
    first = left[0]
    _check_same(first, left[1:], "two seeds of A", ("threat", "attack", "split", "input_size"))
    same_images = len({e.data_hash for e in left}) == 1
    levels = {level: _paired(pairs, level, same_images, seed) for level in LEVELS}
    return Comparison(
        **levels,
        n=len(pairs[0]),
        seeds=len(pairs),
        threat=first.threat,
        attack=first.attack,
        data_hash=first.data_hash,
    )


def _evaluations(results: Results) -> list[Evaluation]:
    if isinstance(results, Evaluation):
        return [results]
    expect("what is compared", results, Evaluation, str, Path, Sequence, hint="or several of these, one a seed")
    if not isinstance(results, (str, Path)):
        found = [evaluation for result in results for evaluation in _evaluations(result)]
        if not found:
            raise DataError("there is nothing to compare: the list of evaluations is empty")
        return found
    folder = Path(results)
    below = sorted(folder.iterdir(), key=_by_number) if folder.is_dir() and not (folder / EVALUATION).exists() else []
    seeds = [path for path in below if (path / EVALUATION).is_file() and path.name != "state"]
    return [load_evaluation(path) for path in seeds or [folder]]


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts seed2 before seed10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _check_same(one: Evaluation, others: Sequence[Evaluation], what: str, names: Sequence[str]) -> None:
    for other in others:
        for name in names:
            mine, theirs = getattr(one, name), getattr(other, name)
            if mine != theirs:
                readable = name.replace("_", " ")
                raise DataError(f"{what} differ in {readable} ({mine} and {theirs}): evaluate both in the same way")


def _pair(a: Evaluation, b: Evaluation) -> pd.DataFrame:
    """One row per example, columns ``clean_a, clean_b, robust_a, robust_b``: correctness as bool."""
    keys = ["index", "label"]
    one, two = (e.outcomes.sort_values("index", ignore_index=True) for e in (a, b))
    if a.class_names and b.class_names:  # records of before they were kept are compared by number
        places = match_names(a.class_names, b.class_names, wanted_by="A", given_by="B")
        two = two.assign(label=np.array(places)[two["label"]])
    if not one[keys].equals(two[keys]):
        raise DataError(
            "A and B were evaluated on different examples: evaluate both with the same data, --examples and --seed"
        )
    _check_same(a, [b], "A and B", SAME)
    return pd.DataFrame({f"{level}_{name}": e.right(level) for name, e in (("a", a), ("b", b)) for level in LEVELS})


def _paired(pairs: Sequence[pd.DataFrame], level: str, same_images: bool, seed: int) -> Paired:
    rights = [(p[f"{level}_a"].to_numpy(bool), p[f"{level}_b"].to_numpy(bool)) for p in pairs]
    differences = [b.astype(float) - a.astype(float) for a, b in rights]
    return Paired(
        a=float(np.mean([a.mean() for a, _ in rights])),
        b=float(np.mean([b.mean() for _, b in rights])),
        difference=paired_bootstrap(differences, same_images=same_images, seed=seed),
        by_seed=tuple(float(d.mean()) for d in differences),
        both=sum(int((a & b).sum()) for a, b in rights),
        only_a=sum(int((a & ~b).sum()) for a, b in rights),
        only_b=sum(int((b & ~a).sum()) for a, b in rights),
        neither=sum(int((~a & ~b).sum()) for a, b in rights),
    )


def _describe(level: str, paired: Paired) -> list[str]:
    shown = paired.difference
    verdict = "B is better" if shown.low > 0 else "A is better" if shown.high < 0 else "no difference is shown"
    lines = [
        f"{level:<7} A {100 * paired.a:.1f} %, B {100 * paired.b:.1f} %, difference {shown}: {verdict}",
        f"        right: both {paired.both}, only A {paired.only_a}, only B {paired.only_b}, neither {paired.neither}",
    ]
    if len(paired.by_seed) > 1:
        lines.append("        by seed: " + ", ".join(f"{100 * d:+.1f}" for d in paired.by_seed))
    return lines
