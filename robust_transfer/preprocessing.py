"""Preprocessing: from a stored image to a network's input. It belongs to the network, not to the target data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from robust_transfer.config import as_dict, config
from robust_transfer.errors import ConfigError

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Resize = Literal["squash", "crop"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]  # of Pillow


@config
class Normalisation:
    """Normalisation of pixels in [0, 1] to a network's input, part of the network: attacks see [0, 1].

    ``per_image`` standardises each image by its own mean and deviation; otherwise ``mean`` and ``std`` are per channel.
    Two ways of it are in use, for n = C * H * W values: TensorFlow's, as the transfer paper's network has it, with the
    population's deviation, at least ``1 / sqrt(n)`` of pixels from 0 to 255; and ``unbiased``, MMA's (Ding et al. 2020),
    with the sample's, which divides by n - 1, at least ``1 / sqrt(n)`` of pixels from 0 to 1.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    per_image: bool = False
    unbiased: bool = False

    def __post_init__(self) -> None:
        if self.unbiased and not self.per_image:
            raise ConfigError("unbiased says how each image is standardised: it needs per_image")
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise ConfigError("normalisation needs one mean and one positive std per channel")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; ``unbiased`` only if it is set."""
        plain = {f.name: as_dict(getattr(self, f.name)) for f in fields(cast(Any, self))}
        return plain if self.unbiased else {name: v for name, v in plain.items() if name != "unbiased"}


CIFAR10 = Normalisation(mean=CIFAR_MEAN, std=CIFAR_STD)


@config
class Geometry:
    """Resizing and cropping of an image, before an attack: resizing with Pillow, then the centre ``size x size``.

    ``squash`` resizes the whole image, whatever its shape, to a square of ``short`` pixels (None: ``size``). ``crop`` keeps
    its proportions: the shorter side becomes ``short`` pixels (None: ``size``), the longer one is rounded down, as
    torchvision's and timm's evaluation do it. What ``short`` lacks of ``size`` is black. ``interpolation`` is Pillow's,
    antialiased.
    """

    size: int
    resize: Resize = "squash"
    short: int | None = None
    interpolation: Interpolation = "bicubic"

    @property
    def resized(self) -> int:
        """Target side of the resizing, in pixels."""
        return self.size if self.short is None else self.short

    def __str__(self) -> str:
        """Description in words: ``the shorter side to 256 pixels (bilinear), then the central 224 x 224``."""
        if self.resize == "crop":
            return f"the shorter side to {self.resized} pixels ({self.interpolation}), then the central {self._square}"
        if self.resized == self.size:
            return f"the whole image squashed to {self._square} ({self.interpolation})"
        side = self.resized
        return f"the whole image squashed to {side} x {side} ({self.interpolation}), then the central {self._square}"

    @property
    def _square(self) -> str:
        return f"{self.size} x {self.size}"


@config
class Preprocessing:
    """Preprocessing of a network: resizing and cropping (:class:`Geometry`), before an attack, and normalisation, after it.

    An attack's budget is on the ``size x size`` pixels between the two, in [0, 1]: the network's input before
    normalisation.
    """

    size: int
    normalisation: Normalisation = CIFAR10
    resize: Resize = "squash"
    interpolation: Interpolation = "bicubic"
    short: int | None = None

    def __post_init__(self) -> None:
        if len(self.normalisation.mean) not in (1, 3):  # images are RGB
            raise ConfigError(f"normalisation needs 3 channels (or 1 for all), not {len(self.normalisation.mean)}")
        for name, side in (("input_size", self.size), ("short", self.geometry.resized)):
            if not 4 <= side <= 4096:
                raise ConfigError(f"{name} must be between 4 and 4096 pixels, not {side}")

    @property
    def geometry(self) -> Geometry:
        """All but the normalisation. Equal geometries give equal pixels."""
        short = None if self.short == self.size else self.short
        return Geometry(size=self.size, resize=self.resize, short=short, interpolation=self.interpolation)

    @property
    def threat_pixels(self) -> str:
        """Sentence on the pixels of a threat's budget."""
        return f"a threat is on the {self.size} x {self.size} pixels that the network reads, after {self.geometry}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; ``short`` only if something is cropped."""
        plain = {f.name: as_dict(getattr(self, f.name)) for f in fields(cast(Any, self))}
        return plain if self.short is not None else {name: v for name, v in plain.items() if name != "short"}

    @classmethod
    def from_timm(cls, config: Mapping[str, Any] | object, *, test: bool = False) -> Preprocessing:
        """Evaluation preprocessing of a timm network, from its ``pretrained_cfg`` (an object or a dictionary).

        ``test``: at the larger size that timm publishes accuracies for, where there is one, rather than the size of training.
        Raises :class:`ConfigError` for what is not square RGB, or resized in a way that is not supported ("border").
        """
        given = config if isinstance(config, Mapping) else vars(config)

        def value(name: str, default: Any) -> Any:
            tested = given.get(f"test_{name}") if test else None
            found = given.get(name) if tested is None else tested
            return default if found is None else found

        channels, height, width = value("input_size", (3, 224, 224))
        if channels != 3 or height != width:
            raise ConfigError(
                f"the network reads images of {channels} x {height} x {width}: only RGB squares are supported"
            )
        mode = value("crop_mode", "center")
        if mode not in ("center", "squash"):
            raise ConfigError(f"timm's crop mode {mode!r} is not supported: only 'center' and 'squash' are")
        share = value("crop_pct", 0.875)
        return cls(
            size=height,
            normalisation=_channels(value("mean", IMAGENET_MEAN), value("std", IMAGENET_STD)),
            resize="crop" if mode == "center" else "squash",
            short=math.floor(height / share),
            interpolation=_interpolation(value("interpolation", "bicubic")),
        )

    @classmethod
    def from_torchvision(cls, transforms: Any) -> Preprocessing:
        """Evaluation preprocessing of a torchvision network, from ``weights.transforms()`` (an ``ImageClassification`` preset).

        Raises :class:`ConfigError` for another transform, or one that does not end in a square.
        """
        try:
            crop, short = _sides(transforms.crop_size), _sides(transforms.resize_size)
            mean, std, interpolation = transforms.mean, transforms.std, transforms.interpolation
        except AttributeError:
            kind = type(transforms).__name__
            raise ConfigError(f"{kind} is no preset of torchvision's: give weights.transforms()") from None
        if len(set(crop)) > 1 or len(short) > 1:
            raise ConfigError(
                f"the network reads crops of {crop} of images resized to {short}: only squares are supported"
            )
        how = _interpolation(getattr(interpolation, "value", interpolation))
        return cls(size=crop[0], normalisation=_channels(mean, std), resize="crop", short=short[0], interpolation=how)


def _sides(given: Any) -> list[int]:
    return [int(side) for side in given] if isinstance(given, (list, tuple)) else [int(given)]


def _channels(mean: Any, std: Any) -> Normalisation:
    return Normalisation(mean=tuple(float(value) for value in mean), std=tuple(float(value) for value in std))


def _interpolation(name: str) -> Interpolation:
    if name not in get_args(Interpolation):
        raise ConfigError(f"the interpolation {name!r} is not supported: use {', '.join(get_args(Interpolation))}")
    return cast(Interpolation, name)


class Normalise(nn.Module):
    """Module of a :class:`Normalisation`, without parameters or learned state."""

    mean: Tensor
    std: Tensor

    def __init__(self, how: Normalisation) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("mean", torch.tensor(how.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(how.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels ``(B, C, H, W)`` in [0, 1] to network inputs of the same shape."""
        if self.how.per_image:
            flat = x.flatten(1)
            floor = flat.shape[1] ** -0.5 / (1 if self.how.unbiased else 255)
            mean, std = flat.mean(1), flat.std(1, correction=int(self.how.unbiased)).clamp_min(floor)
            return (x - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)
        return (x - self.mean) / self.std
