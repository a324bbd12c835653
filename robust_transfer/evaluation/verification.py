"""Verification: score an evaluation again from its stored adversarial images, without running an attack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from pyarrow import ArrowInvalid
from torch import Tensor, nn

from robust_transfer.attacks.victim import Victim, attacking, is_broken, predicted
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split
from robust_transfer.data.class_map import ClassMap
from robust_transfer.errors import DataError
from robust_transfer.evaluation.deltas import DELTAS, unpack
from robust_transfer.evaluation.measurements import LATE
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.evaluation.resolve import (
    at_input_size,
    check_arguments,
    in_classes_of,
    module_hash,
    module_of,
    subset,
)
from robust_transfer.evaluation.result import Evaluation, load_evaluation
from robust_transfer.files import read_table
from robust_transfer.modes import on_device
from robust_transfer.progress import stage
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion, wilson
from robust_transfer.threat import Threat

SCORED_ALONE = 64  # number of broken images that are also scored one at a time


@dataclass(frozen=True)
class Verification:
    """Result of scoring ``n`` of a split's ``of`` images again: the accuracies, and ``problems`` (empty: all confirmed).

    ``confirmed`` of the images counted as broken by an attack have an image inside ball and box that a float32
    forward pass misclassifies; ``alone`` of them were also scored one at a time.
    """

    n: int
    of: int
    clean_accuracy: Proportion
    robust_accuracy: Proportion
    confirmed: int
    alone: int
    problems: list[str]

    def __str__(self) -> str:
        lines = [
            f"clean accuracy   {self.clean_accuracy}  ({self.n} of {self.of} images, scored again)",
            f"robust accuracy  {self.robust_accuracy}  (what no kept image breaks)",
            f"breaks           {self.confirmed} confirmed, {self.alone} of them also alone",
            *(f"problem          {problem}" for problem in self.problems),
            "the claim stands" if not self.problems else "the claim does not stand",
        ]
        return "\n".join(lines)


def verify(
    folder: Path,
    model: Checkpoint | nn.Module,
    split: Split,
    *,
    run: Run | None = None,
    class_map: ClassMap | None = None,
) -> Verification:
    """Score the evaluation in ``folder`` again: ``model`` on the images of ``split`` and the stored deltas.

    Classes are matched by name, as by :func:`evaluate`.
    Raises :class:`DataError` where model or images are others than those evaluated, or no deltas were kept.
    """
    check_arguments(model, split, run)
    run, evaluation = run or Run(), load_evaluation(folder)
    module = module_of(model)
    whole, split = split, evaluated_images(evaluation, at_input_size(module, split))
    if module_hash(module) != evaluation.model_hash:
        raise DataError(f"the evaluation in {folder} is of another model: give that one")
    split, _ = in_classes_of(model, split, class_map)
    deltas, threat = kept_deltas(Path(folder)), Threat.parse(evaluation.threat)
    table, device = evaluation.outcomes.set_index("index"), run.torch_device()
    found = _Found()
    with (
        run.at_work(),
        on_device(module, device),
        attacking(module, device, size=split.size) as target,
        stage("scoring again", len(split), run.quiet) as bar,
    ):
        for rows in torch.split(torch.arange(len(split)), 256):
            x, y, ids = split.subset(rows).on(device)
            found.score(target, x, y, table.loc[ids.tolist()].reset_index(), deltas, threat)
            bar.advance(len(rows))
    n = len(split)
    problems = found.problems() + _chosen(evaluation, whole)
    if found.clean != round(evaluation.clean_accuracy.value * n):
        problems.append(f"clean accuracy was claimed as {evaluation.clean_accuracy}")
    if found.standing != round(evaluation.robust_accuracy.value * n):
        problems.append(f"robust accuracy was claimed as {evaluation.robust_accuracy}")
    return Verification(
        n, len(whole), wilson(found.clean, n), wilson(found.standing, n), found.confirmed, found.alone, problems
    )


class _Found:
    """Counts, and the indices of examples that contradict the claim."""

    def __init__(self) -> None:
        self.clean = self.standing = self.confirmed = self.alone = 0
        self.other: list[int] = []
        self.unbroken: list[int] = []
        self.broken: list[int] = []
        self.missing: list[int] = []

    def score(
        self, target: Victim, x: Tensor, labels: Tensor, rows: pd.DataFrame, deltas: pd.DataFrame, threat: Threat
    ) -> None:
        """Score one batch; ``rows`` are the outcomes of its images, in their order."""
        prediction = predicted(target.logits(x)).cpu()
        right = prediction == labels.cpu()
        self.clean += int(right.sum())
        self.other += rows["index"][(prediction.numpy() != rows["clean_prediction"].to_numpy())].tolist()
        attacked = (rows["broken_by"] != CLEAN).to_numpy()
        there = rows["index"].isin(deltas.index).to_numpy()
        self.missing += rows["index"][attacked & ~there].tolist()
        chosen = torch.from_numpy((attacked & there).nonzero()[0]).to(x.device)
        if not len(chosen):
            return
        mine = rows.iloc[chosen.cpu().numpy()]
        images = unpack(deltas.loc[mine["index"]].reset_index(), x[chosen], threat)
        broken = is_broken(target.logits(images), labels[chosen])
        claimed = torch.tensor((mine["broken_by"] != SURVIVED).tolist(), device=x.device)
        for position in (claimed & broken).nonzero().flatten().tolist()[: max(0, SCORED_ALONE - self.alone)]:
            one = slice(position, position + 1)
            broken[one] &= is_broken(target.logits(images[one]), labels[chosen][one])
            self.alone += 1
        self.standing += int((right.to(x.device)[chosen] & ~broken).sum())
        self.confirmed += int((claimed & broken).sum())
        self.unbroken += mine["index"][(claimed & ~broken).cpu().numpy()].tolist()
        self.broken += mine["index"][(~claimed & broken).cpu().numpy()].tolist()

    def problems(self) -> list[str]:
        """Problems, in sentences."""
        said = {
            "are predicted otherwise when clean": self.other,
            "were counted as broken, and what was kept does not break them": self.unbroken,
            "were counted as standing, and what was kept breaks them": self.broken,
            "have no kept image": self.missing,
        }
        return [f"{len(which)} images {what} (the first: {which[0]})" for what, which in said.items() if which]


def _chosen(evaluation: Evaluation, whole: Split) -> list[str]:
    """Problem if the images may be hand-picked: neither all of them, nor a seeded sample, nor those within a time limit."""
    n, claimed = len(evaluation.outcomes), set(evaluation.outcomes["index"].tolist())
    drawn = subset(whole, n, evaluation.seed)
    if claimed == set(drawn.ids.tolist()) or any(LATE in what for what in evaluation.untested):
        return []
    return [f"the {n} images are not those that --examples {n} --seed {evaluation.seed} draws: they may be hand-picked"]


def evaluated_images(evaluation: Evaluation, split: Split) -> Split:
    """Images of ``split`` that were evaluated, in the evaluation's order. Raises :class:`DataError` for any others."""
    row_of = {int(number): row for row, number in enumerate(split.ids.tolist())}
    wanted = evaluation.outcomes["index"].tolist()
    if any(number not in row_of for number in wanted):
        raise DataError("the evaluation has images that are missing from this split: give the evaluated data and split")
    chosen = split.subset(torch.tensor([row_of[number] for number in wanted], dtype=torch.int64))
    if chosen.hash != evaluation.data_hash:
        raise DataError("the evaluation is of other images or labels: give the evaluated data and split")
    return chosen


def kept_deltas(folder: Path) -> pd.DataFrame:
    """Stored deltas of an evaluation, by the ids of their images; raises :class:`DataError` where there are none."""
    if not (folder / DELTAS).is_file():
        raise DataError(f"{folder} keeps no adversarial images: evaluate with --keep-deltas")
    try:
        return read_table(folder / DELTAS).set_index("index")
    except (OSError, ArrowInvalid, KeyError, ValueError) as error:
        raise DataError(f"{folder / DELTAS} cannot be read ({type(error).__name__}): evaluate again") from None
