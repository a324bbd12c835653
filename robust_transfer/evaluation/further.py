"""Further threats within an evaluation: the same images and attacks, within other balls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from robust_transfer.config import expect
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.loop import attack_split
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.evaluation.resolve import Subject
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import Proportion, wilson
from robust_transfer.threat import Threat

FATES = "broken_by at "  # column of the outcomes: one for each further threat, by its name


@dataclass(frozen=True)
class UnderThreat:
    """Robust accuracy of the evaluated images within another ``threat``, by the same attacks.

    ``together``: the share that stands within this threat, the evaluated one and the further ones before it. ``attacked``
    of the images had to be: a break within a ball is one within every larger ball of the norm.
    """

    threat: str
    robust_accuracy: Proportion
    together: Proportion
    attacked: int
    passes: int
    seconds: float

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> UnderThreat:
        """From the plain types of JSON, in which shares are :class:`Proportion` already."""
        return cls(**stored)


def parse_further(given: str | Threat | Sequence[str | Threat], own: Threat) -> list[Threat]:
    """Further threats beside ``own``, each once; raises :class:`ThreatError`, and :class:`ConfigError` for ``own`` itself."""
    expect("also", given, str, Threat, Sequence, hint="such as ['l2:0.5']")
    threats = [Threat.parse(each) for each in ([given] if isinstance(given, str | Threat) else given)]
    if own in threats:
        raise ConfigError(f"{own} is the evaluated threat: name others as further ones")
    return list(dict.fromkeys(threats))


def missing(found: Iterable[UnderThreat], asked: Sequence[Threat]) -> list[Threat]:
    """Threats that are asked for and were not measured."""
    there = {each.threat for each in found}
    return [threat for threat in asked if str(threat) not in there]


def attack_within(
    threat: Threat, outcomes: pd.DataFrame, subject: Subject, adversary: Adversary, run: Run
) -> tuple[UnderThreat, pd.DataFrame]:
    """Robust accuracy within ``threat``, and ``outcomes`` with a column of the images' fates there."""
    begun, table = time.perf_counter(), outcomes.copy()
    known = {adversary.threat: table["broken_by"].to_numpy(str)}
    known |= {Threat.parse(name.removeprefix(FATES)): table[name].to_numpy(str) for name in columns(table)}
    fates = _inferred(threat, known)
    rows, passes = _open(fates), 0
    if len(rows):
        there = replace(adversary, threat=threat)
        alone = replace(run, out=None, resume=False)
        result = attack_split(there, subject.module, subject.split.subset(torch.from_numpy(rows)), alone)
        fates[rows], passes = result.table["broken_by"].to_numpy(object), result.passes
    table[f"{FATES}{threat}"] = fates.astype(str)
    stands = np.all([each == SURVIVED for each in (*known.values(), table[f"{FATES}{threat}"].to_numpy(str))], axis=0)
    made = UnderThreat(
        threat=str(threat),
        robust_accuracy=wilson(int((table[f"{FATES}{threat}"] == SURVIVED).sum()), len(table)),
        together=wilson(int(stands.sum()), len(table)),
        attacked=len(rows),
        passes=passes,
        seconds=round(time.perf_counter() - begun, 3),
    )
    return made, table


def columns(table: pd.DataFrame) -> list[str]:
    """Columns of ``table`` with fates within further threats."""
    return [str(name) for name in table if str(name).startswith(FATES)]


def _inferred(threat: Threat, known: Mapping[Threat, NDArray[np.str_]]) -> NDArray[np.object_]:
    """Fates that follow from those within other balls of the norm: ``(n,)``, None where an attack has to tell."""
    first = next(iter(known.values()))
    fates = np.where(first == CLEAN, CLEAN, np.array(None, dtype=object))
    for other, theirs in known.items():
        if other.norm != threat.norm:
            continue
        decides = theirs != SURVIVED if other.eps <= threat.eps else theirs == SURVIVED
        rows = np.intersect1d(_open(fates), np.flatnonzero(decides))
        fates[rows] = theirs[rows]
    return fates


def _open(fates: NDArray[np.object_]) -> NDArray[np.int_]:
    """Rows whose fate is not known."""
    return np.flatnonzero([fate is None for fate in fates])
