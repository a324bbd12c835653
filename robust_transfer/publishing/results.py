"""Evaluations in the Hub's formats: ``model-index`` of a model card, and files in ``.eval_results``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from robust_transfer.attacks.naming import spoken
from robust_transfer.evaluation import Evaluation
from robust_transfer.statistics.intervals import Proportion

FOLDER = ".eval_results"
TASK = "image-classification"


@dataclass(frozen=True)
class Benchmark:
    """Data of an evaluation: its ``name``, and the ``task`` in its ``eval.yaml`` on the Hub, if any."""

    name: str
    task: str | None = None

    @property
    def on_hub(self) -> bool:
        """True if the name has the form of one on the Hub."""
        return re.fullmatch(r"[\w.-]+/[\w.-]+", self.name, re.ASCII) is not None


def figures(found: Evaluation) -> Iterator[tuple[str, Proportion, dict[str, Any]]]:
    """Name, value and conditions of each accuracy."""
    how = {"n": found.clean_accuracy.n, "seed": found.seed, "data_hash": found.data_hash}
    yield "clean accuracy", found.clean_accuracy, {**how, **_interval(found.clean_accuracy)}
    attacked = {"threat": found.threat, "attack": found.attack, "constant_accuracy": found.constant_accuracy}
    name = f"robust accuracy ({found.threat}, {spoken(found.attack)})"
    yield name, found.robust_accuracy, {**attacked, **how, **_interval(found.robust_accuracy)}
    for each in found.further:
        name = f"robust accuracy ({each.threat}, {spoken(found.attack)})"
        yield name, each.robust_accuracy, {**attacked, "threat": each.threat, **how, **_interval(each.robust_accuracy)}
    if found.corrupted is not None:
        mean = found.corrupted.accuracy
        yield "corrupted accuracy (mCA)", mean, {**how, "made_by": found.corrupted.versions, **_interval(mean)}


def _interval(share: Proportion) -> dict[str, Any]:
    return {"interval_95": [round(share.low, 6), round(share.high, 6)]}


def model_index(evaluations: Sequence[Evaluation], on: Benchmark) -> list[Any]:
    """Results as ``EvalResult`` of ``huggingface_hub``; a figure shared by two evaluations appears once."""
    from huggingface_hub import EvalResult

    made = {
        (name, value): EvalResult(
            task_type=TASK,
            dataset_type=on.name,
            dataset_name=on.name,
            dataset_split=found.split,
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(value.value, 6),
            metric_args=how,
        )
        for found in evaluations
        for name, value, how in figures(found)
    }
    return list(made.values())


def eval_results(evaluations: Sequence[Evaluation], on: Benchmark) -> dict[str, list[dict[str, Any]]]:
    """Contents of the files in ``.eval_results``, by name: one a figure, as the Hub asks where a benchmark has several.

    The usual figure, clean accuracy, has no notes; a robust one says in its notes what it is. There are none for data that
    is no benchmark on the Hub, with a task of its own: the Hub takes no others.
    """
    if on.task is None or not on.on_hub:
        return {}
    files = dict[str, list[dict[str, Any]]]()
    for found in evaluations:
        for name, value, how in figures(found):
            entry: dict[str, Any] = {"dataset": {"id": on.name, "task_id": on.task}, "value": round(value.value, 6)}
            if "threat" in how:
                entry["notes"] = f"{name}, {value}, {how['n']} images of {found.split}"
            files[f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.yaml"] = [entry]
    return files
