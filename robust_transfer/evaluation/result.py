"""Record of an evaluation: `evaluation.json` and `outcomes.parquet`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from pyarrow.parquet import ParquetFile

from robust_transfer.attacks.naming import spoken
from robust_transfer.certification import Certificate
from robust_transfer.certification.record import CLASSES, RADII
from robust_transfer.config import as_dict
from robust_transfer.errors import DataError
from robust_transfer.evaluation.classes import ByClass, unequal, worst
from robust_transfer.evaluation.corrupted import Corrupted
from robust_transfer.evaluation.curve import CurvePoint
from robust_transfer.evaluation.further import FATES, UnderThreat
from robust_transfer.evaluation.outcomes import CLEAN, COLUMNS, EVALUATION, OUTCOMES, SURVIVED, write_outcomes
from robust_transfer.evaluation.renamed import FIELDS, translated
from robust_transfer.evaluation.seen import Seen
from robust_transfer.evaluation.transfer_attacks import Transferred
from robust_transfer.files import expanded
from robust_transfer.statistics.intervals import Proportion
from robust_transfer.texts import read_json

SCHEMA = 1
SMALLEST_EPS = "smallest_eps"
FURTHER_COLUMNS = "further_columns"
Accuracy = Literal["clean", "robust"]
# Fields that the first records did not have, as records have them of which nothing was asked.
LATER: dict[str, Any] = {"by_class": None, "curve": None, "transferred": None, "untested": [], "source_hash": None}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of an evaluation.

    ``robust_accuracy`` is over all n examples: one that is wrong when clean counts as broken. ``constant_accuracy`` is
    the share of the most frequent label, which a classifier that always says it would have, attacked or not.
    ``by_attack`` is cumulative: the share of the n examples that stands after each attack and all those before it.
    ``outcomes`` has a row an example: ``index`` (its id in the split), ``label``, ``clean_prediction``,
    ``adversarial_prediction`` (the label where it stands), ``broken_by`` (an attack, "clean" where it is misclassified
    when clean, "" where it stands) and ``margin`` (best other logit less the label's, on its worst image; float32).
    ``by_class``: the same of each class that there are images of. ``balanced_clean_accuracy`` and
    ``balanced_robust_accuracy`` are the means of these, whatever number of images each class has (their intervals: see
    :func:`~robust_transfer.statistics.intervals.mean_of`). ``per_class``: the classes are shown one by one.
    ``curve`` (robust accuracy at other budgets) is there where it was asked for, and so is a column
    ``smallest_eps``: the smallest budget that breaks an example, 0 where it is wrong when clean, infinity where it stands.
    ``transferred``: what threatens a model with a known source in particular; None for others.
    ``untested`` says what would have been tried and could not be. ``flags`` are reasons to doubt the figures; they were
    looked for on ``red_flag_examples`` images, and transfer attacks were tried on ``transferred.n``.
    ``passes`` counts forward-equivalent image passes. ``precision`` is that of the attacks' steps, verdicts are float32;
    ``disagreement``: how many iterates broke the model in that precision only (``unconfirmed_iterates``), and how many
    examples in float32 only (``missed_examples``); None where the steps are float32, too. ``compiled``: the steps were, by
    ``torch.compile``. ``split``: the role of the images in their task, "unknown" where nobody said.
    ``seen``: which of them the model, or what it came from, was trained on. ``notes``: how the data was read, and how its
    classes were matched with the model's. ``class_names``: what the numbers of labels and predictions stand for.
    ``certificates``: what was certified of the same images, with columns ``class of NAME`` (-1: it abstains, or did not look)
    and ``radius of NAME`` (not a number where it did not look) in the outcomes.
    ``further``: robust accuracy within further threats, with a column ``broken_by at THREAT`` each. ``corrupted``: accuracy
    under common corruptions.
    ``pixels``: a sentence on which pixels the threat is on, and how they were made of the stored images.
    """

    schema: int
    clean_accuracy: Proportion
    robust_accuracy: Proportion
    constant_accuracy: float
    by_attack: dict[str, float]
    by_class: ByClass | None
    curve: list[CurvePoint] | None
    transferred: Transferred | None
    untested: list[str]
    threat: str
    attack: str
    split: str
    input_size: int
    precision: str
    seed: int
    flags: list[str]
    seconds: float
    passes: int
    data_hash: str
    model_hash: str
    source_hash: str | None
    versions: dict[str, str]
    hardware: dict[str, Any]
    command: str
    outcomes: pd.DataFrame
    disagreement: dict[str, int] | None = None
    red_flag_examples: int = 0
    compiled: bool = False
    seen: list[Seen] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    matched: list[str] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    pixels: str = ""
    balanced_clean_accuracy: Proportion | None = None
    balanced_robust_accuracy: Proportion | None = None
    per_class: bool = False
    certificates: list[Certificate] = field(default_factory=list)
    further: list[UnderThreat] = field(default_factory=list)
    corrupted: Corrupted | None = None

    def right(self, level: Accuracy) -> pd.Series[bool]:
        """Correctness of each example, indexed by sorted id: when clean, or under attack (``robust``)."""
        broken_by = self.outcomes.set_index("index")["broken_by"].sort_index()
        return broken_by != CLEAN if level == "clean" else broken_by == SURVIVED

    def to_dict(self) -> dict[str, Any]:
        """Everything but the outcomes, as plain JSON types: the contents of ``evaluation.json``."""
        facts = {f.name: as_dict(getattr(self, f.name)) for f in fields(self) if f.name != "outcomes"}
        return {**facts, FURTHER_COLUMNS: [str(name) for name in self.outcomes if name not in COLUMNS]}

    def save(self, folder: Path) -> None:
        """Write ``evaluation.json`` and ``outcomes.parquet``, each atomically; raises :class:`OutputError`."""
        write_outcomes(Path(folder), self.to_dict(), self.outcomes)

    def headline(self) -> str:
        """Both accuracies in one line."""
        what = f"{self.clean_accuracy.n} images, {self.threat}, {spoken(self.attack)}"
        return f"clean accuracy {self.clean_accuracy}, robust accuracy {self.robust_accuracy} ({what})"

    def headline_figures(self) -> dict[str, float]:
        """Accuracies with their intervals, their number of images, and the number of flags: for trackers."""
        figures: dict[str, float] = {"constant_accuracy": self.constant_accuracy, "n": self.clean_accuracy.n}
        for name, share in (("clean_accuracy", self.clean_accuracy), ("robust_accuracy", self.robust_accuracy)):
            figures |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
        if self.corrupted is not None:
            figures["corrupted_accuracy"] = self.corrupted.accuracy.value
        return {**figures, "flags": len(self.flags)}

    def asked(self) -> dict[str, Any]:
        """Model, images, threat and attack, in words."""
        names = ("threat", "attack", "split", "input_size", "seed", "precision", "data_hash", "model_hash")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        after = [f"{100 * share:.1f} % after {name}" for name, share in self.by_attack.items()]
        lines = [
            f"clean accuracy   {self.clean_accuracy}  ({self.clean_accuracy.n} images, {self.split})",
            f"robust accuracy  {self.robust_accuracy}  ({self.threat}, {spoken(self.attack)})",
            *([f"                 {', '.join(after)}"] if len(after) > 1 else []),
            f"constant         {100 * self.constant_accuracy:.1f} %  (always saying the most frequent class)",
            *(f"at {level.threat:<14}{level.robust_accuracy}" for level in self.curve or []),
            *self._further(),
            *self._classes(),
            *(self.transferred.lines() if self.transferred is not None else []),
            *(line for certificate in self.certificates for line in certificate.lines()),
            *(self.corrupted.lines() if self.corrupted is not None else []),
            *([f"pixels           {self.pixels}"] if self.pixels else []),
            *self._precision(),
            *(f"note             {note}" for note in self.notes),
            *(f"untested         {what}" for what in self.untested),
            *(f"doubt            {flag}" for flag in self.flags),
        ]
        return "\n".join(lines)

    def _further(self) -> list[str]:
        """Robust accuracy within further threats, and within all of them."""
        lines = [f"also {each.threat:<12}{each.robust_accuracy}  (the same attacks)" for each in self.further]
        if self.further:
            lines.append(f"within all       {self.further[-1].together}  (stands within each of these threats)")
        return lines

    def _classes(self) -> list[str]:
        """Balanced accuracy where class sizes differ, and each class on request."""
        lines, classes = list[str](), self.by_class or {}
        if self.balanced_clean_accuracy is not None and unequal(classes):
            name, lowest = worst(classes, "robust_accuracy")
            lines = [
                f"balanced         {self.balanced_clean_accuracy} clean, {self.balanced_robust_accuracy} robust  "
                f"(mean of {len(classes)} classes; least robust: {name}, {lowest}, {lowest.n} images)"
            ]
        if self.per_class:
            width = max(10, *(len(name) for name in classes))
            lines += [
                f"class {name:<{width}} {shares['clean_accuracy']} clean, {shares['robust_accuracy']} robust, "
                f"{shares['clean_accuracy'].n} images"
                for name, shares in classes.items()
            ]
        return lines

    def _precision(self) -> list[str]:
        steps = f"precision        {self.precision} steps{', compiled' if self.compiled else ''}, float32 verdicts"
        if self.disagreement is None:
            return [steps]
        unconfirmed, missed = self.disagreement["unconfirmed_iterates"], self.disagreement["missed_examples"]
        only = f"{unconfirmed} iterates broke it in {self.precision} only, {missed} examples in float32 only"
        return [f"{steps}: {only}"]


def load_evaluation(folder: Path) -> Evaluation:
    """Read the files of :meth:`Evaluation.save`; raises :class:`DataError` for missing or foreign files."""
    return _load(expanded(folder), _outcomes)


def load_figures(folder: Path) -> Evaluation:
    """Same as :func:`load_evaluation`, with its checks but without ``outcomes``, for callers that read thousands."""
    return _load(folder, lambda stored: pd.DataFrame())


def _load(folder: Path, outcomes: Callable[[pa.Table], pd.DataFrame]) -> Evaluation:
    if not (folder / EVALUATION).is_file():
        raise DataError(f"{folder} holds no evaluation: run `robust-transfer evaluate ... --out {folder}` first")
    try:
        summary = dict(read_json(folder / EVALUATION))
        if summary["schema"] != SCHEMA:
            raise DataError(f"{folder / EVALUATION} has schema {summary['schema']!r}, this version reads {SCHEMA}")
        # without pandas' reader and its threads, which take many times as long as so small a file
        stored = ParquetFile(pa.BufferReader((folder / OUTCOMES).read_bytes())).read(use_threads=False)
        known = summary.pop(FURTHER_COLUMNS, stored.column_names)  # others are of a measurement that was cut short
        stored = stored.select([name for name in stored.column_names if name in COLUMNS or name in known])
        standing = stored["broken_by"].to_pylist().count(SURVIVED)
        named = {**LATER, **translated(summary, FIELDS, EVALUATION, warn=False)}
        evaluation = Evaluation(**_typed(named), outcomes=outcomes(stored))
        claimed = evaluation.robust_accuracy.n, round(evaluation.robust_accuracy.value * len(stored))
    except (OSError, pa.ArrowInvalid, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"the evaluation in {folder} cannot be read ({type(error).__name__}): evaluate again") from None
    if claimed != (len(stored), standing):
        raise DataError(f"{EVALUATION} and {OUTCOMES} in {folder} are of different evaluations: evaluate again")
    return evaluation


def _outcomes(stored: pa.Table) -> pd.DataFrame:
    table: pd.DataFrame = stored.to_pandas(use_threads=False)
    more = (name for name in table if name == SMALLEST_EPS or str(name).startswith((CLASSES, RADII, FATES)))
    return table[[*COLUMNS, *more]].astype(COLUMNS)


def _typed(summary: dict[str, Any]) -> dict[str, Any]:
    """JSON types of ``evaluation.json`` converted to those of :class:`Evaluation`."""
    typed: dict[str, Any] = {name: _proportions(value) for name, value in summary.items()}
    if not all(isinstance(name, str) for name in typed.get("class_names") or ()):
        raise ValueError("a class's name is no text")
    if typed["curve"] is not None:
        typed["curve"] = [CurvePoint(**level) for level in typed["curve"]]
    if typed["transferred"] is not None:
        typed["transferred"] = Transferred(**typed["transferred"])
    typed["seen"] = [Seen(**each) for each in typed.get("seen", [])]
    typed["certificates"] = [Certificate.read(each) for each in typed.get("certificates", [])]
    typed["further"] = [UnderThreat.read(each) for each in typed.get("further", [])]
    if (under := typed.get("corrupted")) is not None:
        typed["corrupted"] = Corrupted.read(under)
    typed.setdefault("per_class", typed["by_class"] is not None)  # once it was there only where it was asked for
    return typed


def _proportions(value: Any) -> Any:
    """Convert every ``{value, low, high, n}`` to a :class:`Proportion`."""
    if isinstance(value, list):
        return [_proportions(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"value", "low", "high", "n"}:
        if not all(type(part) in (int, float) and math.isfinite(part) for part in value.values()):
            raise ValueError("a figure is no number")
        return Proportion(**value)
    return {name: _proportions(each) for name, each in value.items()}
