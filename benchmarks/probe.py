"""Whole L2 path of a linear probe: our solver, the one before it, and scikit-learn's, at about the same gradient.

python benchmarks/probe.py [--few PATH/TO/tiny-imagenet] [--many PATH/TO/cifar10] [--repeats 3] [--cache FOLDER]

``--few``: 16 images of each of 43 classes, features of `bundled-64`. ``--many``: images and their mirror images, features of
`bundled`. Without them features are drawn at random. Interleaved, medians; every contender goes along the path from strong
to weak, each solution where the one before ended. What is said of a solution (the largest gradient, as a share of that at
zero, and how far its objective lies above the least that anyone found) is computed for all alike, in float64. A contender
that has taken ``--limit`` seconds goes no further.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import scipy
import sklearn
import torch
from common import finish, header, measured, parsed, timed
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from table import Row
from torch import Tensor

import robust_transfer as rt
from robust_transfer.data import Split
from robust_transfer.run import with_threads
from robust_transfer.strategies import features_of
from robust_transfer.strategies.linear_probe import PATH
from robust_transfer.strategies.softmax import Standardisation, solve_path

BEFORE = "bed1d9f"  # the last commit with L-BFGS
Weights = tuple[np.ndarray, np.ndarray]  # on standardised features, (K, d) and (K,)


@dataclass(frozen=True)
class Case:
    """Features ``(n, d)`` and labels; ``gradient`` is what contenders are asked for, as a share of that at zero."""

    name: str
    features: Tensor
    labels: Tensor
    gradient: float

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", help="a data set of at least 43 classes, of larger images")
    parser.add_argument("--many", help="a data set of 10 classes, of 32 pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds after which a contender goes no further")
    parser.add_argument("--cache", help="a folder for the features")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--solvers", default="lbfgs,newton-cg,newton-cholesky", help="of scikit-learn")
    parser.add_argument("--parts", default="few,many")
    given = parsed(parser, repeats=1, limit=10.0, solvers="newton-cg")
    run = rt.Run(quiet=True, cache=given.cache)
    with with_threads(given.threads):
        before = solver_before(BEFORE)
        ways: dict[str, Way] = {"ours": ours}
        if before is not None:
            ways[f"ours at {BEFORE}"] = as_before(before)
        ways |= {f"scikit-learn {solver}": scikit_learns(solver) for solver in given.solvers.split(",") if solver}
        rows: list[Row] = []
        for part in given.parts.split(","):
            for case in few(given.few, run) if part == "few" else many(given.many, run):
                rows += compare(case, ways, given.repeats, given.limit)
        finish(rows, given.rows)


def few(data: str | None, run: rt.Run) -> list[Case]:
    """688 images of 43 classes; and every fourth of them four times, all but the same, with labels by chance."""
    generator = torch.Generator().manual_seed(0)
    if data is None:
        features, labels = drawn(688, 256, 43)
    else:
        split = all_training(data)
        chosen = torch.cat([(split.labels == label).nonzero()[:16, 0] for label in range(43)])
        features, labels = featured("bundled-64", split.subset(chosen), run)
    noise = 0.01 * features.std(0) * torch.randn(features.shape, generator=generator)
    copies = features[::4].repeat(4, 1) + noise
    chance = torch.randint(0, 43, (len(copies),), generator=generator)
    return [Case("few", features, labels, 1e-6), Case("near copies", copies, chance, 1e-6)]


def many(data: str | None, run: rt.Run) -> list[Case]:
    """50,000 images of 10 classes, with every second feature and with all."""
    if data is None:
        features, labels = drawn(50_000, 256, 10)
    else:
        split = all_training(data)
        parts = [featured("bundled", each, run) for each in (split, mirrored(split))]
        features, labels = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    return [
        Case("half the features of many", features[:, ::2].contiguous(), labels, 2e-5),
        Case("many", features, labels, 2e-5),
    ]


def all_training(data: str) -> Split:
    """Training split, nothing held out for val."""
    return rt.load_task(data, val=0.0).train


def mirrored(split: Split) -> Split:
    return Split.in_memory(split.images().flip(3), split.labels, split.class_names)


def featured(source: str, split: Split, run: rt.Run) -> tuple[Tensor, Tensor]:
    classifier = rt.load_source(source).classifier
    return features_of(classifier, split.prepared(classifier.spec.preprocessing), run), split.labels


def drawn(n: int, d: int, classes: int) -> tuple[Tensor, Tensor]:
    """Non-negative, correlated features, and labels that they tell in part."""
    generator = torch.Generator().manual_seed(0)
    turned, _ = torch.linalg.qr(torch.randn(d, d, generator=generator))
    features = ((torch.randn(n, d, generator=generator) * torch.logspace(0, -1.5, d)) @ turned + 0.2).relu()
    standard = (features - features.mean(0)) / features.std(0)
    scores = standard @ torch.randn(d, classes, generator=generator)
    return features, (scores + d**0.5 * torch.randn(scores.shape, generator=generator)).argmax(1)


def solver_before(commit: str) -> ModuleType | None:
    """Module of the solver before, from the history; None where there is none."""
    shown = subprocess.run(
        ["git", "show", f"{commit}:robust_transfer/strategies/softmax.py"],
        cwd=Path(__file__).parent,
        capture_output=True,
        check=False,
    )
    if shown.returncode:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "softmax_before.py"
        path.write_bytes(shown.stdout)
        spec = spec_from_file_location("softmax_before", path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules["softmax_before"] = module
        spec.loader.exec_module(module)
    return module


Way = Callable[[Case], Iterator[Weights]]


def ours(case: Case) -> Iterator[Weights]:
    """All at once, as the probe does."""
    standard = Standardisation.of(case.features)
    for solution in solve_path(case.features, case.labels, case.classes, PATH):
        yield on_standardised(solution.weight, solution.bias, standard)


def as_before(module: ModuleType) -> Way:
    def way(case: Case) -> Iterator[Weights]:
        standard = Standardisation.of(case.features)
        for solution in module.solve_path(case.features, case.labels, case.classes, PATH):
            yield on_standardised(solution.weight, solution.bias, standard)

    return way


def scikit_learns(solver: str) -> Way:
    """Float64, warm starts; its tolerance is on the gradient's largest entry, here the same share of the norm at zero."""

    def way(case: Case) -> Iterator[Weights]:
        x, y = Standardisation.of(case.features)(case.features).numpy(), case.labels.numpy()
        tolerance = (
            case.gradient * slope(x, y, (np.zeros((case.classes, x.shape[1])), np.zeros(case.classes)), 0.0) / 10
        )
        model = LogisticRegression(solver=solver, tol=tolerance, max_iter=20_000, warm_start=True)
        for l2 in PATH:
            model.set_params(C=1 / (l2 * len(y)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what it reached is computed below
                model.fit(x, y)
            yield model.coef_.copy(), model.intercept_.copy()

    return way


def on_standardised(weight: Tensor, bias: Tensor, standard: Standardisation) -> Weights:
    """Float32 heads on raw features, taken back."""
    return (weight * standard.std).numpy(), (bias.double() + weight.double() @ standard.mean).numpy()


def logits(x: np.ndarray, weights: Weights) -> np.ndarray:
    found: np.ndarray = x @ weights[0].T + weights[1]
    return found


def objective(x: np.ndarray, y: np.ndarray, weights: Weights, l2: float) -> float:
    scores = logits(x, weights)
    loss = (logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]).mean()
    return float(loss + l2 / 2 * (weights[0] ** 2).sum())


def slope(x: np.ndarray, y: np.ndarray, weights: Weights, l2: float) -> float:
    """Norm of the objective's gradient."""
    scores = logits(x, weights)
    p = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    p[np.arange(len(y)), y] -= 1
    return float(np.hypot(np.linalg.norm(p.T @ x / len(y) + l2 * weights[0]), np.linalg.norm(p.mean(0))))


def gone(way: Way, case: Case, limit: float) -> list[Weights]:
    """Solutions of the strengths that it came to within ``limit`` seconds."""
    started, found = time.perf_counter(), []
    for weights in way(case):
        found.append(weights)
        if time.perf_counter() - started > limit:
            break
    return found


def compare(case: Case, ways: dict[str, Way], repeats: int, limit: float) -> list[Row]:
    n, d = case.features.shape
    what = f"{len(PATH)} strengths, {case.name}: {n} x {d}, {case.classes} classes"
    header(what, scipy=scipy.__version__, sklearn=sklearn.__version__, repeats=repeats, asked=case.gradient)
    found: dict[str, list[Weights]] = {}

    def timed_way(name: str) -> float:
        def go() -> None:
            found[name] = gone(ways[name], case, limit)

        return timed(go)

    rows = measured(what, {name: partial(timed_way, name) for name in ways}, repeats)
    x, y = Standardisation.of(case.features)(case.features).numpy(), case.labels.numpy()
    zero = slope(x, y, (np.zeros((case.classes, d)), np.zeros(case.classes)), 0.0)
    values = {name: [objective(x, y, w, l2) for w, l2 in zip(each, PATH, strict=False)] for name, each in found.items()}
    least = [min(each[i] for each in values.values() if len(each) > i) for i in range(len(PATH))]
    for name, each in found.items():
        gradient = max(slope(x, y, w, l2) for w, l2 in zip(each, PATH, strict=False)) / zero
        above = max(value - best for value, best in zip(values[name], least, strict=False))
        note = f"gradient {gradient:.0e}, {above:.0e} nats above the least"
        if len(each) < len(PATH):
            note = f"given up after {len(each)} of {len(PATH)} strengths, {note}"
        rows[name] = replace(rows[name], note=note)
        print(f"  {name}: {note}", flush=True)
    return list(rows.values())


if __name__ == "__main__":
    main()
