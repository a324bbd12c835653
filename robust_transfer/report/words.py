"""Sentences for decision makers: figures, their reliability, and unknowns."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from robust_transfer.attacks.naming import spoken
from robust_transfer.data.weights import IMBALANCED, imbalance
from robust_transfer.drawing import Point
from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.result import SMALLEST_EPS
from robust_transfer.provenance import Provenance
from robust_transfer.report.gather import Entry
from robust_transfer.report.levels import Level
from robust_transfer.statistics.intervals import Proportion
from robust_transfer.threat import Threat

THOROUGH = ("strong", "autoattack", "pyautoattack")


def title(entries: Sequence[Entry], studies: Sequence[str]) -> str:
    """Title of the page: a study's own, or method, source, data and threat; the folder's name where these are unknown."""
    if studies:
        more = len(studies) - 1 + len(entries)
        return studies[0] + (f", and {more} more" if more else "")
    if len(entries) > 1:
        data = {entry.card.data.get("name") for entry in entries if entry.card is not None}
        threats = {entry.evaluation.threat for entry in entries if entry.evaluation is not None}
        told = f" on {data.pop()}" if len(data) == 1 and data != {None} else ""
        return f"{len(entries)} runs{told}" + (f", attacked at {threats.pop()}" if len(threats) == 1 else "")
    card, evaluation = entries[0].card, entries[0].evaluation
    if card is None or not (data_name := card.data.get("name")):
        return f"Robustness of {entries[0].name}"
    kind, _, method = card.method.partition(":")
    how = {"transfer": f"Transfer by {method}", "pretrain": f"Pretraining by {method}"}.get(kind, card.method)
    before = card.source.data if isinstance(card.source, Provenance) else None
    attacked = f", attacked at {evaluation.threat}" if evaluation is not None else ", not attacked yet"
    return f"{how}: " + (f"{before} → {data_name}" if before else str(data_name)) + attacked


def headline(evaluation: Evaluation, level: Level) -> str:
    """Both accuracies in one sentence, at one of the budgets."""
    clean, n = evaluation.clean_accuracy, evaluation.clean_accuracy.n
    images = f"the one {_split(evaluation)}image" if n == 1 else f"{n:,} {_split(evaluation)}images"
    return (
        f"Of {images} the network names {_with_interval(clean)} right as they are, and "
        f"{_with_interval(level.robust)} also under attack, when {allowed(level.threat)} "
        f"({level.threat}, attack {spoken(evaluation.attack)})."
    )


def best(points: Sequence[Point], threat: Threat) -> str:
    """Most robust and most accurate of several results that were measured alike, in words."""
    robust = max(points, key=lambda point: (point.robust.value, point.clean.value))
    clean = max(points, key=lambda point: (point.clean.value, point.robust.value))
    told = f"when {allowed(str(threat))}"
    if robust is clean:
        return (
            f"{robust.name} is both the most accurate and the most robust: {share(clean.clean)} right as images are, "
            f"{share(clean.robust)} also under attack, {told}."
        )
    return (
        f"Most robust: {robust.name}, {share(robust.robust)} right under attack, {told}, and {share(robust.clean)} as images "
        f"are. Most accurate: {clean.name}, {share(clean.clean)} as images are, and {share(clean.robust)} under attack."
    )


def allowed(threat: str) -> str:
    """Attacker's abilities, for readers without knowledge of threat models."""
    ball = Threat.parse(threat)
    if ball.norm == "linf":
        steps = 255 * ball.eps
        return f"every colour value of an image may be changed by up to {steps:.3g} of its 255 steps"
    return f"an image may be changed by up to {ball.eps:.3g} in Euclidean length, with colour values from 0 to 1"


def caution(evaluation: Evaluation) -> str:
    """Caveats for the robust accuracy."""
    said = f"Saying the most frequent class always would be right on {100 * evaluation.constant_accuracy:.1f} %."
    classes = evaluation.by_class or {}
    counts = [shares["clean_accuracy"].n for shares in classes.values()]
    if imbalance(counts) > IMBALANCED and evaluation.balanced_clean_accuracy is not None:
        said += (
            f" The classes are imbalanced ({min(counts)} to {max(counts)} images): balanced accuracy, for which each counts "
            f"the same, is {evaluation.balanced_clean_accuracy} clean and {evaluation.balanced_robust_accuracy} robust."
        )
    attack = spoken(evaluation.attack)
    if not any(name in attack for name in THOROUGH):
        said += f" {attack} is a quick measure: --attack strong usually breaks more."
    return said


def unknown(entry: Entry) -> Iterator[str]:
    """Facts missing from the run's folders, with the option that would measure each."""
    card, evaluation = entry.card, entry.evaluation
    if evaluation is None:
        if card is not None and entry.network is not None:
            folder = shlex.quote(entry.name)
            yield (
                "Clean and robust accuracy: the network was never evaluated. Next: robust-transfer evaluate "
                f"{folder} --data DATA --attack strong --out {folder}"
            )
    else:
        yield from _unmeasured(evaluation, transferred=card is not None and card.source is not None)
    if card is None:
        if evaluation is not None:
            yield "Provenance, training and cost: the network's own folder is not among those given."
        return
    if card.origin:
        yield "How it was trained, and what that took: these are other people's weights, of which the card has the origin."
    elif not card.data.get("val"):
        yield "What val would have said: there was no val split, so nothing was chosen by images of its own."
    if not card.fingerprints:
        yield "What the network was trained on, image by image: the card has no fingerprints."
    if not card.environment:
        yield "Versions, hardware and commit of the training: the card does not name them."
    if not card.command:
        yield "The command that made the network: the card does not name it."


def _unmeasured(evaluation: Evaluation, *, transferred: bool) -> Iterator[str]:
    for what in evaluation.untested:
        yield f"Untested: {what}."
    if evaluation.curve is None and SMALLEST_EPS not in evaluation.outcomes:
        yield "Robust accuracy at other budgets: not measured (evaluate with --curve or --smallest-eps, and --resume)."
    elif SMALLEST_EPS not in evaluation.outcomes:
        yield "The smallest budget that flips each image: not measured (evaluate with --smallest-eps and --resume)."
    if not evaluation.red_flag_examples:
        yield (
            "Most red flags: no image was looked at for them (--red-flag-examples). Those that outcomes show by themselves "
            "were looked for."
        )
    if transferred and evaluation.transferred is None:
        yield "Attacks through the public source: not tried (--transfer-attack-examples)."


def share(given: Proportion) -> str:
    """Share with its interval, in percent."""
    return f"{100 * given.value:.1f} % [{100 * given.low:.1f}, {100 * given.high:.1f}]"


def _with_interval(given: Proportion) -> str:
    return f"{100 * given.value:.1f} % (95 % interval {100 * given.low:.1f} to {100 * given.high:.1f} %)"


def _split(evaluation: Evaluation) -> str:
    return "" if evaluation.split == "unknown" else f"{evaluation.split} "
