"""Shared helpers for tests of timm's and torchvision's names: a photo that is not square, and the library's own pixels."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import numpy as np
import torch
from foreign_helpers import randomised
from foreign_states import photos
from PIL import Image
from torch import Tensor, nn

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import to_pixels
from robust_transfer.data.resizing import resized


def photo(width: int = 320, height: int = 250) -> Image.Image:
    """Smooth colours with noise upon them."""
    pixels = (photos(1, 3)[0] * 255).byte().permute(1, 2, 0).numpy()
    smooth = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noise = np.random.default_rng(0).integers(-20, 21, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def lively(module: nn.Module) -> nn.Module:
    """The module with weights by which its logits hang on the image, not on its biases alone."""
    generator = torch.Generator().manual_seed(4)
    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    with torch.no_grad():
        for layer in layers:
            fan = layer.weight[0].numel()
            layer.weight.normal_(0, (2 / fan) ** 0.5, generator=generator)
        layers[-1].weight.normal_(0, 0.1, generator=generator)
    return randomised(module)


def stored(module: nn.Module) -> tuple[bytes, str]:
    """File of a module's state, and its sha256."""
    buffer = BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest()


def computes_as(found: Checkpoint, module: nn.Module, transform: Any) -> None:
    """From the photo on, pixels within 1/255 of the library's own, and of the library's own pixels the same logits."""
    theirs: Tensor = transform(photo())[None]
    own = resized(photo(), found.preprocessing.geometry)
    pixels = to_pixels(torch.from_numpy(np.ascontiguousarray(own))[None])
    how = found.preprocessing.normalisation
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (how.mean, how.std))
    undone = theirs * std + mean
    assert float(undone.std()) > 0.1, "nothing is compared"
    assert pixels.shape == undone.shape
    assert float((pixels - undone).abs().max()) <= 1 / 255 + 1e-6
    with torch.no_grad():
        ours, expected, other = found.classifier.eval()(undone), module.eval()(theirs), module(theirs / 2 - 0.03)
    assert float(expected.std()) > 1e-3, "nothing is compared"
    assert float((other - expected).abs().max()) > 0.01 * float(expected.abs().max()), "they do not hang on the image"
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
