"""Network for deployment: pixels in, logits and probabilities out; preceding steps are described in words and in JSON."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import as_dict
from robust_transfer.environment import environment
from robust_transfer.errors import ConfigError
from robust_transfer.exporting.resizing import Resizing
from robust_transfer.preprocessing import Preprocessing

Input = Literal["uint8", "float32"]
PIXELS, OUTPUTS = "pixels", ("logits", "probabilities")


class Deployed(nn.Module):
    """Classifier on ``uint8`` pixels ``(N, H, W, 3)``, as decoders give them, or ``float32`` ones ``(N, 3, H, W)`` in [0, 1].

    Scaling and normalisation are inside, with ``resize`` also resizing and cropping: it then takes uint8 pixels of any size.
    It returns logits and their softmax, each ``(N, K)``.
    """

    def __init__(self, model: Checkpoint, kind: Input, *, resize: bool = False) -> None:
        super().__init__()
        if kind not in get_args(Input):
            raise ConfigError(f"the input is {' or '.join(get_args(Input))}, not {kind!r}")
        if resize and kind != "uint8":
            raise ConfigError("resizing inside is that of bytes, as Pillow does it: it needs the input uint8")
        copied = model.classifier.copy().cpu().eval().requires_grad_(False)
        self.normalise, self.body, self.head = copied.normalise, copied.body, copied.head
        self.how = model.preprocessing
        self.kind, self.size = kind, model.input_size
        self.resizing = Resizing(model.preprocessing.geometry) if resize else None

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities."""
        if self.resizing is not None:
            x = self.resizing(pixels).float() / 255
        else:
            x = pixels.permute(0, 3, 1, 2).float() / 255 if self.kind == "uint8" else pixels
        logits = self.head(self.body(self.normalise(x)))
        return logits, logits.softmax(1)

    def given(self, images: Tensor) -> Tensor:
        """Images uint8 ``(N, 3, H, W)`` in this network's input format."""
        return images.permute(0, 2, 3, 1).contiguous() if self.kind == "uint8" else images.float() / 255

    @property
    def example(self) -> Tensor:
        """Two images to trace it with; with resizing of a size that is not the network's."""
        height, width = (self.size, self.size) if self.resizing is None else (self.size + 13, self.size + 7)
        return self.given(torch.zeros(2, 3, height, width, dtype=torch.uint8))

    @property
    def dynamic(self) -> dict[int, Any]:
        """Dimensions of the input that may have any length."""
        names = {0: "N"} if self.resizing is None else {0: "N", 1: "H", 2: "W"}
        return {place: torch.export.Dim(name) for place, name in names.items()}

    @property
    def before(self) -> str:
        """Preparation that an image needs, in words."""
        return before(self.how, resized=self.resizing is not None)

    @property
    def contract(self) -> str:
        """Sentence on the input."""
        if self.resizing is not None:
            return f"{PIXELS}: uint8 (N, H, W, 3), RGB, any N, H and W: images of one size"
        if self.kind == "uint8":
            return f"{PIXELS}: uint8 (N, {self.size}, {self.size}, 3), RGB, any N"
        return f"{PIXELS}: float32 (N, 3, {self.size}, {self.size}), RGB in [0, 1], any N"


def before(how: Preprocessing, *, resized: bool = False) -> str:
    """Preparation that an image needs before the network, in words; ``resized``: the network itself resizes."""
    if resized:
        return f"decode to RGB; {how.geometry}, scaling and normalisation are inside"
    return f"decode to RGB, then {how.geometry}, with Pillow; scaling and normalisation are inside"


def description(model: Checkpoint, check: dict[str, Any], network: Deployed | None = None) -> dict[str, str]:
    """Metadata of an export, as text: class names, preprocessing, origin, the check.

    And the inputs and outputs of a ``network`` of ours; those of timm's are timm's.
    """
    card, made = model.card, environment()
    origin = {
        "weights": model.hash,
        "network": card.network.name,
        "method": card.method,
        "threat": None if card.threat is None else str(card.threat),
        "data": card.data.get("name"),
        "source": as_dict(card.source),
        "origin": {key: card.origin[key] for key in ("address", "sha256", "published") if card.origin.get(key)},
        "versions": made["versions"],
        "commit": made["commit"],
    }
    told = {
        "class_names": json.dumps(list(card.class_names), ensure_ascii=False),
        "before": before(model.preprocessing) if network is None else network.before,
        "preprocessing": json.dumps(as_dict(model.preprocessing)),
        "threat_pixels": model.preprocessing.threat_pixels,
        "provenance": json.dumps(origin, ensure_ascii=False),
        "check": json.dumps(check),
    }
    if network is None:
        return told
    return {
        **told,
        "input": network.contract,
        "outputs": f"{' and '.join(OUTPUTS)}: float32 (N, {len(card.class_names)})",
    }
