"""Common corruptions (Hendrycks & Dietterich 2019): 15 kinds at five severities, by the optional imagecorruptions-imaug.

The severities are those of ImageNet-C at every size; CIFAR-10-C, which has milder ones, was made by other numbers.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import time
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robust_transfer.errors import ConfigError, DataError
from robust_transfer.randomness import Address, integers

NAMES = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # pixels a side, which the package asks for
_SEEDED = ("impulse_noise", "glass_blur")  # these have generators of their own, and take a seed
_PACKAGES = ("imagecorruptions-imaug", "scikit-image", "opencv-python", "scipy", "numpy", "pillow")


def corrupted(images: Tensor, ids: Tensor, name: str, severity: int, *, seed: int) -> Tensor:
    """``images`` under one corruption; uint8 ``(B, 3, H, H)`` both.

    What is random is a function of (``seed``, corruption, severity, id): it does not depend on the other images.
    """
    make = library().corrupt
    drawn = integers(Address(seed, f"corruption/{name}", step=severity), ids, 2**16, 2)
    made = [
        _one(make, image, name, severity, (high << 16) + low)
        for image, (high, low) in zip(images.permute(0, 2, 3, 1).contiguous().numpy(), drawn.tolist(), strict=True)
    ]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


def _one(make: Any, image: NDArray[np.uint8], name: str, severity: int, seed: int) -> NDArray[np.uint8]:
    """One image ``(H, H, 3)``. The package draws from NumPy's global stream, which is afterwards where it was, and prints."""
    before = np.random.get_state()
    np.random.seed(seed)
    own = {"seed": seed} if name in _SEEDED else {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return np.asarray(make(image, corruption_name=name, severity=severity, **own))
    finally:
        np.random.set_state(before)


def library() -> Any:
    """Package that makes them; raises :class:`ConfigError` where it is not installed."""
    try:
        return importlib.import_module("imagecorruptions")
    except ImportError:
        raise ConfigError("corruptions are made by an extra: pip install 'robust-transfer[corruptions]'") from None


def check(size: int | None) -> None:
    """Raise :class:`DataError` for images that are too small to be corrupted."""
    if size is not None and size < SMALLEST:
        raise DataError(
            f"corruptions are made of images of {SMALLEST} x {SMALLEST} pixels and more, and the network reads "
            f"{size} x {size}: leave them out"
        )


def seconds_each(image: Tensor) -> float:
    """Seconds that all corruptions of one image like ``image (3, H, H)`` take on this machine: measured, once warm."""
    ids = torch.zeros(1, dtype=torch.int64)
    for severities in ((1, 3), SEVERITIES):  # glass blur is compiled, once for each of two kinds of settings
        begun = time.perf_counter()
        for name in NAMES:
            for severity in severities:
                corrupted(image[None], ids, name, severity, seed=0)
    return time.perf_counter() - begun


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a corrupted image looks like."""
    found = dict[str, str]()
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
