"""Gallery: images, perturbations and predictions, from easily flipped images to survivors."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from robust_transfer.attacks import PGD
from robust_transfer.attacks.victim import attacking, predicted
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import to_pixels
from robust_transfer.drawing.plots import data_uri, pixels
from robust_transfer.errors import RobustTransferError
from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.deltas import DELTAS, unpack
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.evaluation.result import SMALLEST_EPS
from robust_transfer.evaluation.verification import kept_deltas
from robust_transfer.modes import on_device
from robust_transfer.report.classes import name_of
from robust_transfer.report.gather import Entry
from robust_transfer.report.inputs import Inputs, find_inputs
from robust_transfer.run import Run
from robust_transfer.threat import Threat

MOST = 24  # images on a page
ROOM = 2_200_000  # characters of a page that its pictures may take
CHEAP = PGD(steps=10)
EXACT = 64  # pixels a side, up to which a picture is kept exactly


@dataclass(frozen=True)
class Verdict:
    """Predicted class and its probability; None where unknown."""

    name: str
    confidence: float | None
    right: bool


@dataclass(frozen=True)
class Picture:
    """One image as data URIs.

    ``attacked_at_all`` unless it was wrong as it is. ``smallest``: the smallest eps that flips it, infinity where none did;
    None: not measured.
    """

    number: int
    true: str
    side: int
    clean: str
    change: str
    attacked: str
    before: Verdict
    after: Verdict
    attacked_at_all: bool
    smallest: float | None


@dataclass(frozen=True)
class Gallery:
    """Images in the order of their flips; ``why`` is the reason for an empty gallery.

    ``notes``: selection and origin of the images. ``amplified``: enlargement factor of the perturbation.
    """

    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = ()
    amplified: int = 1
    why: str | None = None


def gallery(entry: Entry, *, data: str | None, most: int, run: Run) -> Gallery:
    """Gallery of at most ``most`` images of an evaluated entry; without images or network, the reason."""
    evaluation = entry.evaluation
    assert evaluation is not None
    assert entry.evaluated is not None
    try:
        inputs = find_inputs(entry, data)
        rows, how = ranked(evaluation.outcomes)
        chosen = spread(rows, most)
        kept = kept_deltas(entry.evaluated.folder) if (entry.evaluated.folder / DELTAS).is_file() else None
        return _drawn(evaluation, inputs, chosen, kept, run, (how, _picked(len(rows), len(chosen))))
    except RobustTransferError as error:
        return Gallery((), why=f"There are no pictures: {error}.")


def ranked(outcomes: pd.DataFrame) -> tuple[list[int], str]:
    """Rows from the most easily flipped to the most robust, and the criterion."""
    if SMALLEST_EPS in outcomes:
        order = np.lexsort((-outcomes["margin"].to_numpy(), outcomes[SMALLEST_EPS].to_numpy()))
        return order.tolist(), "Sorted by the smallest eps that flips an image; then by margin."
    fate = outcomes["broken_by"].to_numpy(str)
    attacks = {name: number for number, name in enumerate(dict.fromkeys(fate[(fate != CLEAN) & (fate != SURVIVED)]), 1)}
    stage = np.array([0 if f == CLEAN else math.inf if f == SURVIVED else attacks[f] for f in fate])
    order = np.lexsort((-outcomes["margin"].to_numpy(), stage))
    told = "Sorted: wrong as they are; flipped by an attack; standing, the nearest to the boundary first"
    return order.tolist(), f"{told} (the smallest eps of each image was not measured: evaluate with --smallest-eps)."


def spread(rows: Sequence[int], most: int) -> list[int]:
    """At most so many rows, evenly spaced, including the first and the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(place)] for place in np.linspace(0, len(rows) - 1, most)] if most > 1 else [rows[0]]


def _picked(n: int, shown: int) -> str:
    return (
        f"All {n} evaluated images." if shown == n else f"{shown} of the {n} evaluated images, evenly over that order."
    )


def _drawn(
    evaluation: Evaluation,
    inputs: Inputs,
    chosen: Sequence[int],
    kept: pd.DataFrame | None,
    run: Run,
    notes: tuple[str, ...],
) -> Gallery:
    threat, table = Threat.parse(evaluation.threat), evaluation.outcomes.iloc[list(chosen)].reset_index(drop=True)
    x = to_pixels(inputs.images.subset(torch.tensor(chosen)).images(), run.torch_device())
    if kept is not None:
        attacked, said = _kept(kept, table, x, threat), "Attacked images are those that the evaluation kept"
    else:
        attacked, more = _attacked(inputs.model, table, x, threat, run)
        said = f"The evaluation kept no attacked images (--keep-deltas): these were attacked for this page by {CHEAP}{more}"
    before, after = (_verdicts(evaluation, inputs.model, table, images) for images in (x, attacked))
    change = attacked - x
    amplified = max(1, int(0.5 / max(float(change.abs().max()), 1e-6)))
    size = ROOM // (3 * MOST)
    pictures = []
    for row, (number, label) in enumerate(zip(table["index"].tolist(), table["label"].tolist(), strict=True)):
        images = (x[row], 0.5 + amplified * change[row], attacked[row])
        clean, enlarged, after_it = (picture_uri(image, size) for image in images)
        one = Picture(
            number=number,
            true=name_of(evaluation, label),
            side=x.shape[-1],
            clean=clean,
            change=enlarged,
            attacked=after_it,
            before=before[row],
            after=after[row],
            attacked_at_all=bool(change[row].any()),
            smallest=float(table[SMALLEST_EPS].iloc[row]) if SMALLEST_EPS in table else None,
        )
        pictures.append(one)
    exact = (
        ()
        if x.shape[-1] <= EXACT
        else ("Pictures are compressed, or made smaller, for this page; verdicts are on the exact images.",)
    )
    return Gallery(tuple(pictures), (*notes, f"{said}.", *exact), amplified)


def _kept(kept: pd.DataFrame, table: pd.DataFrame, x: Tensor, threat: Threat) -> Tensor:
    """Images stored by the evaluation; misclassified clean ones were not attacked and are unchanged."""
    attacked = x.clone()
    there = table["index"].isin(kept.index).to_numpy()
    if there.any():
        rows = torch.from_numpy(np.flatnonzero(there)).to(x.device)
        attacked[rows] = unpack(kept.loc[table["index"][there]].reset_index(), x[rows], threat)
    return attacked


def _attacked(model: Checkpoint, table: pd.DataFrame, x: Tensor, threat: Threat, run: Run) -> tuple[Tensor, str]:
    """Images attacked now, and the number of verdicts that differ from the evaluation's."""
    labels, ids = (torch.from_numpy(table[name].to_numpy(copy=True)).to(x.device) for name in ("label", "index"))
    with on_device(model.classifier, x.device):
        found = CHEAP(model.classifier, x, labels, ids, threat, seed=run.seed)
    other = int((found.broken.cpu().numpy() != (table["broken_by"] != SURVIVED).to_numpy()).sum())
    return found.adversarial, f"; for {other} of them its verdict is not the evaluation's" if other else ""


def _verdicts(evaluation: Evaluation, model: Checkpoint, table: pd.DataFrame, images: Tensor) -> list[Verdict]:
    """Current predictions of the network for images, in float32."""
    labels = table["label"].tolist()
    with on_device(model.classifier, images.device), attacking(model.classifier, images.device) as target:
        logits = target.logits(images).float()
    said = predicted(logits).tolist()
    sure = logits.softmax(1).amax(1).tolist()
    return [
        Verdict(name_of(evaluation, guess), share if math.isfinite(share) else None, guess == label)
        for guess, share, label in zip(said, sure, labels, strict=True)
    ]


def picture_uri(image: Tensor, room: int) -> str:
    """Image as a data URI of at most ``room`` characters: exact where it is small, else compressed until it fits."""
    picture = pixels(image)
    if picture.width <= EXACT:
        return data_uri(_encoded(picture, "PNG"), "png")
    while True:
        for quality in (85, 60, 35):
            if len(uri := data_uri(_encoded(picture, "WEBP", quality=quality), "webp")) <= room:
                return uri
        picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4), Image.Resampling.LANCZOS)


def _encoded(picture: Image.Image, kind: str, **how: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **how)
    return buffer.getvalue()
