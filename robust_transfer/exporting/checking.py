"""Check of an export: the same real images through the classifier and through the exported network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data.decode import to_rgb
from robust_transfer.data.encoded import opened, quiet_pillow
from robust_transfer.data.resizing import resized
from robust_transfer.engine import exact_float32
from robust_transfer.errors import ConfigError, DataError, NetworkError
from robust_transfer.modes import eval_mode
from robust_transfer.prediction.pictures import Pictures, each_picture

TOLERANCE = 1e-4  # of probabilities, and of logits over the largest of them
MOST = 64  # images
BATCHES = (1, 3)  # sizes of the first batches; the rest is the last one
PHOTOS = "parts of the two photos of scikit-learn"


def pictures(given: Any) -> tuple[list[Image.Image], str]:
    """RGB images for the check, with a description: those ``given``, up to 64, or parts of scikit-learn's photos."""
    if given is None:
        return _photos(), PHOTOS
    found = []
    for one in each_picture(given, hidden=True):
        if one.error is not None:
            raise DataError(one.error)
        with quiet_pillow(), opened(Pictures([one]), 0) as image:
            found.append(to_rgb(image).copy())
        if len(found) == MOST:
            break
    if not found:
        raise ConfigError("there are no images to check with: give some, or leave it to the photos of scikit-learn")
    return found, "images of yours"


def _photos() -> list[Image.Image]:
    """Sixteen parts, of several shapes and sizes: small and tall ones, too, as Pillow resizes tall images in another order."""
    from sklearn.datasets import load_sample_images

    parts = []
    for photo in load_sample_images().images:
        height, width = photo.shape[:2]
        for row in range(2):
            for column in range(2):
                top, left = row * height // 2, column * width // 2
                whole = photo[top : top + height // 2, left : left + width // 2]
                part = whole[: 90 + 20 * row, :130] if column else photo[: 300 + 100 * row, :70]
                parts += [Image.fromarray(whole), Image.fromarray(part)]
    return parts


def as_pixels(images: list[Image.Image], model: Checkpoint) -> Tensor:
    """Images at the model's input size: uint8 ``(n, 3, size, size)``."""
    return torch.from_numpy(np.stack([resized(image, model.preprocessing.geometry) for image in images]))


def logits_of(model: Checkpoint, pixels: Tensor) -> Tensor:
    """Classifier's own logits of uint8 images, in float32 on the CPU."""
    classifier = model.classifier.copy().cpu()
    with torch.no_grad(), eval_mode(classifier), exact_float32():
        return torch.cat([classifier(some.float() / 255) for some in pixels.split(16)])


def in_turn(
    images: list[Image.Image], run: Callable[[list[Image.Image]], tuple[Tensor, Tensor]]
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """``run`` of whole pictures as :func:`check` wants it: it hands the same pictures on, so many at a time."""
    place = iter(images)
    return lambda some: run([next(place) for _ in some])


def each_by_itself(run: Callable[[Tensor], tuple[Tensor, Tensor]], images: list[Image.Image]) -> tuple[Tensor, Tensor]:
    """``run`` (uint8 images ``(n, 3, H, W)`` of one size) of pictures that may have any sizes."""
    alone = [run(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]) for image in images]
    logits, probabilities = (torch.cat(parts) for parts in zip(*alone, strict=True))
    return logits, probabilities


def check(
    what: str, run: Callable[[Tensor], tuple[Tensor, Tensor]], model: Checkpoint, pixels: Tensor, images: str
) -> dict[str, Any]:
    """Differences between ``run`` (uint8 images to logits and probabilities) and the model itself.

    Batches are of several sizes. Raises :class:`NetworkError` where they are further apart than :data:`TOLERANCE`.
    """
    wanted, parts = logits_of(model, pixels), list[tuple[Tensor, Tensor]]()
    sizes = [size for size in BATCHES if size < len(pixels)]
    for some in pixels.split([*sizes, len(pixels) - sum(sizes)] if sum(sizes) < len(pixels) else [len(pixels)]):
        parts.append(run(some))
    logits, probabilities = (torch.cat(each) for each in zip(*parts, strict=True))
    largest, apart = float(wanted.abs().max()), float((logits - wanted).abs().max())
    apart_probabilities = float((probabilities - wanted.softmax(1)).abs().max())
    if not (apart <= TOLERANCE * largest and apart_probabilities <= TOLERANCE):  # nor where one is no number
        raise NetworkError(
            f"{what} computes something else than PyTorch: on {len(pixels)} images its logits differ by up to {apart:.1e} (the "
            f"largest is {largest:.3g}), its probabilities by {apart_probabilities:.1e} (allowed is {TOLERANCE:.0e} "
            "of either); nothing was written"
        )
    same = int((logits.argmax(1) == wanted.argmax(1)).sum())
    return {
        "images": images,
        "n": len(pixels),
        "largest_difference_of_logits": apart,
        "largest_logit": largest,
        "largest_difference_of_probabilities": apart_probabilities,
        "same_class": same,
        "checked_by": what,
    }
