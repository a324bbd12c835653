"""Arrays of images: channels first, channels last, or grey; uint8 only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robust_transfer.data.encoded import ArrayImages
from robust_transfer.errors import DataError

CHANNELS = (1, 3, 4)  # grey, RGB, and RGB with transparency
WANTED = "images must be uint8: (n, H, W), (n, H, W, C) or (n, C, H, W), with 1, 3 or 4 channels"


def pictures_of(images: Any) -> ArrayImages:
    """Images in an array of one of the layouts; DataError for other or ambiguous ones."""
    array = _array(images, WANTED)
    if array.ndim == 3:
        return ArrayImages(array)
    if array.ndim != 4:
        raise DataError(f"{WANTED}, not {array.shape}")
    return ArrayImages(_channels_last(array, f"{WANTED}, not {array.shape}"))


def picture_of(image: Any) -> NDArray[np.uint8]:
    """One image, ``(H, W)`` or ``(H, W, C)``, of an array or tensor; a tensor has its channels first."""
    wanted = "an image must be a picture of PIL, or uint8: (H, W), (H, W, C) or (C, H, W), with 1, 3 or 4 channels"
    array = _array(image, wanted)
    if array.ndim not in (2, 3):
        raise DataError(f"{wanted}, not {array.shape}")
    if array.ndim == 2:
        return array
    if isinstance(image, torch.Tensor) and array.shape[0] in CHANNELS:  # as torchvision has them
        return _grey_or_colour(np.moveaxis(array, 0, -1))
    picture: NDArray[np.uint8] = _channels_last(array[None], f"{wanted}, not {array.shape}")[0]
    return picture


def _array(images: Any, wanted: str) -> NDArray[np.uint8]:
    if isinstance(images, torch.Tensor):
        if images.is_meta or images.layout is not torch.strided:
            raise DataError(
                f"{wanted}, not a {'meta' if images.is_meta else 'sparse'} tensor: give the pixels themselves"
            )
        images = images.detach().cpu()
        images = images.numpy() if images.dtype != torch.bfloat16 else images.float().numpy()
    if not isinstance(images, np.ndarray):
        raise DataError(f"{wanted}, not {type(images).__name__}")
    if images.dtype != np.uint8:
        fraction = np.issubdtype(images.dtype, np.floating)
        hint = ": (255 * images).round() as uint8, if they are in [0, 1]" if fraction else ": their range is not known"
        raise DataError(f"{wanted}, not {images.dtype}{hint}")
    if 0 in images.shape[1:]:
        raise DataError(f"{wanted}, not {images.shape}: images of no pixels hold nothing")
    return images


def _channels_last(array: NDArray[np.uint8], what: str) -> NDArray[np.uint8]:
    first, last = array.shape[1] in CHANNELS, array.shape[3] in CHANNELS
    if first and last:
        raise DataError(f"{what}, where the channels may be first or last: give them last, as (n, H, W, 3), and larger")
    if not first and not last:
        raise DataError(what)
    return _grey_or_colour(np.moveaxis(array, 1, -1) if first else array)


def _grey_or_colour(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return array[..., 0] if array.shape[-1] == 1 else array
