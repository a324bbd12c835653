"""Predict images one by one, with what it takes to flip each prediction: to the first order, or by a real attack.

The first-order figure (``linear_eps``) is DeepFool's linearised distance (Moosavi-Dezfooli et al. 2016): the smallest, over
the next classes, of the margin over the dual norm of its gradient. For a linear network it is exact. For any other it is an
estimate that bounds nothing, in either direction. It is too large, so that the image is more fragile than it says, where
margins fall faster further on than they do at the image, where gradients are masked (a saturated network has almost none), and
where the nearest boundary is that of a class that was not looked at. It is too small where margins flatten, and where pixels
cannot move as far as they would have to, at 0 and 1. An attack's break is a fact, and so an upper bound.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from numbers import Integral
from types import NoneType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robust_transfer.attacks import Attack, attack_name
from robust_transfer.attacks.naming import with_parts, without_source
from robust_transfer.attacks.nearest import boundary_distances, nearest_by_logit
from robust_transfer.attacks.victim import attacking, predicted
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import expect
from robust_transfer.data import Split, to_pixels
from robust_transfer.data.decode import to_rgb
from robust_transfer.data.encoded import opened, quiet_pillow
from robust_transfer.data.parallel import in_threads
from robust_transfer.data.resizing import resized
from robust_transfer.defaults import DEFAULT_THREAT
from robust_transfer.engine import Engine
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.brackets import brackets
from robust_transfer.evaluation.curve import Budgets
from robust_transfer.evaluation.effort import effort
from robust_transfer.evaluation.precision import engine_for, without_repetition
from robust_transfer.mixture import mixed_head
from robust_transfer.modes import on_device
from robust_transfer.pass_sizes import usual_chunk
from robust_transfer.prediction.pictures import Picture, Pictures, each_picture
from robust_transfer.prediction.record import Prediction, finite
from robust_transfer.progress import stage
from robust_transfer.run import Run
from robust_transfer.threat import Threat

FIRST = 4  # images before the first line; then twice as many each time
MOST = 256  # images at a time where the device asks for no number of its own
ATTACKS = 3  # that what flips an image takes, about, for the time left: many of them end early
NEXT = 9  # classes whose boundaries are looked at, as DeepFool's authors do for many classes


def predict(
    model: Checkpoint | Classifier,
    images: Any,
    *,
    top: int = 1,
    threat: Threat | str | None = None,
    attack: str | Attack | Sequence[Attack] | None = None,
    classes: int = NEXT,
    run: Run | None = None,
) -> Iterator[Prediction]:
    """Predictions for ``images``, in their order and as they are made: thousands of files take the memory of a few.

    ``images``: a path, a PIL image, uint8 pixels ``(H, W, 3)``, or any iterable of these; folders and patterns stand for the
    images in them. They are decoded as data sets are, and resized as the model's card says. A file that cannot be read gives a
    prediction with an ``error``, and the rest goes on. ``top``: so many of the likeliest classes.
    ``threat`` (the card's, else linf:8/255) has the norm in which flips are measured. ``classes``: how many of the next
    classes ``linear_eps`` looks at, at one gradient each. ``attack`` also measures the smallest budget that flips a
    prediction, to a 64th of the threat's eps, or of the last of its doublings up to there. The search begins at ``linear_eps``,
    which makes it short and does not decide where it ends (see :mod:`robust_transfer.evaluation.brackets`). Attacks
    that need the model's source are left out. Images are told apart by their pixels, so neither names nor order change
    anything. Nothing is written. Raises :class:`ConfigError` and :class:`DataError` for a model that predicts nothing.
    """
    expect("model", model, Checkpoint, Classifier, hint="such as load_source(folder), or Classifier.from_module(...)")
    expect("run", run, Run, NoneType, hint="such as Run(seed=1)")
    for name, number in (("top", top), ("classes", classes)):
        expect(name, number, Integral)
        if number < 1:
            raise ConfigError(f"{name} must be at least 1, not {number}")
    card = model.card if isinstance(model, Checkpoint) else None
    if isinstance(model, Checkpoint):
        model.refuse_headless()
    classifier = model.classifier if isinstance(model, Checkpoint) else model
    names = card.class_names if card is not None else tuple(map(str, range(classifier.num_classes)))
    ball = Threat.parse(threat if threat is not None else (card.threat if card is not None else None) or DEFAULT_THREAT)
    attacks = without_source(attack) if attack is not None else []
    if attack is not None and mixed_head(classifier) is not None:
        attacks = with_parts(attack, attacks)
    if attacks and not ball.eps:
        raise ConfigError("an attack begins at the threat's eps: give one above 0, such as linf:8/255")
    how = dataclasses.replace(run or Run(), out=None, resume=False, overwrite=False)
    return _Predictor(classifier, names, ball, attacks, top, classes, how).predictions(images)


class _Predictor:
    def __init__(
        self,
        classifier: Classifier,
        names: tuple[str, ...],
        threat: Threat,
        attacks: Sequence[Attack],
        top: int,
        classes: int,
        run: Run,
    ) -> None:
        self.classifier, self.names, self.threat, self.attacks = classifier, names, threat, attacks
        self.top, self.classes, self.run, self.device = top, classes, run, run.torch_device()
        self._engine: Engine | None = None

    def predictions(self, images: Any) -> Iterator[Prediction]:
        pictures, size = each_picture(images, hidden=self.run.quiet), FIRST
        while some := list(islice(pictures, size)):
            with self.run.at_work():  # not while a caller has the predictions: their threads are not ours
                made = self._batch(some)
                most = usual_chunk(self.device, self.classifier.spec.input_size) or MOST
            yield from made
            size = max(FIRST, min(2 * size, most))

    def _batch(self, pictures: list[Picture]) -> list[Prediction]:
        errors, pixels = self._decoded(pictures)
        made = [Prediction(one.name, error=error) for one, error in zip(pictures, errors, strict=True)]
        rows = [row for row, error in enumerate(errors) if error is None]
        if rows:
            for row, found in zip(rows, self._found(torch.from_numpy(pixels[rows])), strict=True):
                made[row] = dataclasses.replace(found, file=pictures[row].name)
        return made

    def _decoded(self, pictures: list[Picture]) -> tuple[list[str | None], NDArray[np.uint8]]:
        """Error for each image or None; and the pixels of readable ones."""
        errors, how = [one.error for one in pictures], self.classifier.spec.preprocessing.geometry
        pixels, images = np.zeros((len(pictures), 3, how.size, how.size), np.uint8), Pictures(pictures)

        def fill(row: int) -> None:
            if errors[row] is None:
                try:
                    with opened(images, row) as image:
                        pixels[row] = resized(to_rgb(image), how)
                except DataError as error:
                    errors[row] = str(error)

        with quiet_pillow():
            in_threads(fill, len(pictures))
        return errors, pixels

    def _found(self, pixels: Tensor) -> list[Prediction]:
        """Predictions for uint8 images, without names."""
        x, engine = to_pixels(pixels, self.device), Engine(folded=False, tight=True)
        with on_device(self.classifier, self.device), attacking(self.classifier, self.device, engine) as target:
            logits = target.logits(x)
            labels = predicted(logits)
            numbers, labels = labels >= 0, labels.clamp_min(0)
            others = nearest_by_logit(logits, labels, self.classes)
            linear = boundary_distances(target, x, labels, others, self.threat).amin(1).clamp_min(0)
        likeliest = logits.softmax(1).topk(min(self.top, logits.shape[1]), dim=1)
        stood, broken = self._attacked(pixels, labels.cpu(), linear.cpu()) if self.attacks else (None, None)
        made = []
        for row in range(len(pixels)):
            if not numbers[row]:
                made.append(Prediction("", error="the model's logits for it are no numbers"))
                continue
            found = Prediction(
                "",
                classes=tuple(self.names[number] for number in likeliest.indices[row].tolist()),
                probabilities=tuple(likeliest.values[row].tolist()),
                norm=self.threat.norm,
                linear_eps=finite(float(linear[row])),
            )
            if stood is not None and broken is not None:
                found = dataclasses.replace(
                    found,
                    attack=attack_name(self.attacks),
                    stood_at=float(stood[row]),
                    broken_at=finite(float(broken[row])),
                )
            made.append(found)
        return made

    def _attacked(
        self, pixels: Tensor, labels: Tensor, linear: Tensor
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Largest eps at which each prediction stood, and smallest at which it was flipped; infinite where at none."""
        names = tuple(map(str, range(len(self.names))))  # those of a card may have one twice
        split = dataclasses.replace(Split.in_memory(pixels, labels, names), ids=_ids(pixels))
        run = dataclasses.replace(self.run, quiet=True)
        self._engine = self._engine or engine_for(self.classifier, split, run, self.attacks)
        attacks = without_repetition(self.attacks, self._engine)
        adversary = Adversary(attacks, self.threat, self._engine, seed=run.seed).tight()
        reach = 1.0 if self.threat.norm == "linf" else float(pixels[0].numel()) ** 0.5  # all of the box, from anywhere
        guesses: NDArray[np.float64] = linear.double().nan_to_num(nan=math.inf, posinf=math.inf).numpy()
        each = ATTACKS * effort(attacks)
        with stage(f"attacking {len(split)} images", len(split), self.run.quiet, each=each) as bar:
            bar.begin(len(split))
            found = brackets(Budgets(adversary, self.classifier, split, run), guesses, reach)
            bar.advance(len(split))
        return found


def _ids(pixels: Tensor) -> Tensor:
    """Ids that address an attack's noise, by the images' content: names and positions change nothing."""
    digests = [hashlib.blake2b(image.numpy().tobytes(), digest_size=8).digest() for image in pixels]
    return torch.tensor([int.from_bytes(digest, "little") & (2**63 - 1) for digest in digests])
