"""Random resized crop and flip, batched on the device, addressed by example id (Szegedy et al. 2015, section 6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robust_transfer import randomness
from robust_transfer.config import config

TRIES = 10
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # torchvision's defaults
_DRAWS = 2 * TRIES + 3
Places = tuple[Tensor, ...]


@config
class RandomResizedCrop:
    """Part of an image, enlarged to the whole's size (bilinear), and a random flip.

    The part is 0.08 to 1 of the area, uniformly, with sides in a proportion of 3/4 to 4/3, log-uniformly; of ten such
    draws the first that fits is taken, else the whole. It is cut from the pixels that the network would read otherwise.
    """

    flip: bool = True

    @property
    def active(self) -> bool:
        """Always True."""
        return True

    def __str__(self) -> str:
        flip = ", random flip" if self.flip else ""
        return f"random resized crop (scale 0.08 to 1, ratio 3/4 to 4/3, bilinear){flip}"

    def __call__(self, images: Tensor, ids: Tensor, *, seed: int, epoch: int) -> Tensor:
        """Augment square uint8 or float images ``(B, C, S, S)``; ``ids`` int64 ``(B,)`` are the example ids.

        Shape and type stay; what is done to an image depends on (seed, epoch, its id) and on nothing else.
        """
        if not len(images):
            return images
        size, device = images.shape[-1], images.device
        top, left, height, width, flips = (part.to(device) for part in boxes(ids.cpu(), size, seed=seed, epoch=epoch))
        down = _places(top, height, size)
        across = _places(left, width, size)
        if self.flip:
            across = tuple(torch.where(flips[:, None], part.flip(1), part) for part in across)
        lines = images.permute(0, 2, 3, 1).reshape(len(images), size, -1)  # each a whole line of pixels
        lines = _blended(lines, down, size)
        columns = lines.view(len(images) * size, size, -1)  # each a pixel
        made = _blended(columns, tuple(part.repeat_interleave(size, 0) for part in across), size)
        if not images.is_floating_point():
            made = ((made + 2 * size * size) // (4 * size * size)).to(images.dtype)  # whole numbers: no device differs
        return made.view(len(images), size, size, -1).permute(0, 3, 1, 2)  # channels-last in memory


def boxes(ids: Tensor, size: int, *, seed: int, epoch: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width of each image's part (int64), and whether it is flipped; on the CPU."""
    address = randomness.Address(seed=seed, purpose="augment/resized-crop", step=epoch)
    draws = randomness.uniform(address, ids, (_DRAWS,)).double()
    area = size * size * (SCALE[0] + (SCALE[1] - SCALE[0]) * draws[:, :TRIES])
    low, high = (math.log(ratio) for ratio in RATIO)
    ratio = torch.exp(low + (high - low) * draws[:, TRIES : 2 * TRIES])
    widths, heights = (torch.sqrt(each).round().long() for each in (area * ratio, area / ratio))
    fits = (widths >= 1) & (widths <= size) & (heights >= 1) & (heights <= size)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    found = fits.any(1)
    width, height = (torch.where(found, x.gather(1, first)[:, 0], size) for x in (widths, heights))
    u, v, w = draws[:, 2 * TRIES :].unbind(1)
    top, left = ((each * (size - side + 1)).long() for each, side in ((u, height), (v, width)))
    return top, left, height, width, w < 0.5


def _places(start: Tensor, length: Tensor, size: int) -> Places:
    """Two pixels that each of ``size`` outputs lies between, ``(B, size)``, and its way from one to other, in ``1/(2 size)``.

    Output i is at ``(i + 1/2) length / size - 1/2`` from the start, and stays within the part.
    """
    place = (2 * torch.arange(size, device=start.device) + 1) * length[:, None] - size
    place = torch.minimum(place.clamp_min(0), 2 * size * (length[:, None] - 1))
    below = place // (2 * size)
    above = torch.minimum(below + 1, length[:, None] - 1)
    return start[:, None] + below, start[:, None] + above, place % (2 * size)


def _blended(values: Tensor, places: Places, size: int) -> Tensor:
    """Weighted sums along the middle of ``(N, size, d)``; of integers times ``2 size``, so that they stay exact."""
    below, above, weight = places
    first = (torch.arange(len(values), device=values.device) * size)[:, None]
    flat = values.reshape(-1, values.shape[-1])
    one, other = (flat.index_select(0, (first + index).view(-1)) for index in (below, above))
    share = weight.reshape(-1, 1)
    if values.is_floating_point():
        return (one + (other - one) * (share.to(values.dtype) / (2 * size))).view(len(values), size, -1)
    whole = torch.int32 if 4 * 255 * size * size < 2**31 else torch.int64
    one, other, share = one.to(whole), other.to(whole), share.to(whole)
    return (2 * size * one + (other - one) * share).view(len(values), size, -1)
