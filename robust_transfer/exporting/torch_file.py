"""Files of ``torch.export``: a graph that only PyTorch loads and runs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from robust_transfer.errors import NetworkError
from robust_transfer.exporting.deployed import PIXELS, Deployed


def traced(network: Deployed) -> Any:
    """The network as an ``ExportedProgram``. Raises :class:`NetworkError` for one that cannot be traced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about its own ways
        try:
            return torch.export.export(network, (network.example,), dynamic_shapes={PIXELS: network.dynamic})
        except Exception as error:  # whatever the tracer meets in a network
            told = str(error).strip().splitlines()
            raise NetworkError(
                f"the network cannot be traced by torch.export: {told[0] if told else type(error).__name__}"
            ) from None


def content(program: Any, description: Mapping[str, str]) -> bytes:
    """File of a program, with the ``description`` as extra files in it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, file, extra_files=dict(description))
    return file.getvalue()


def runner(stored: bytes, network: Deployed) -> tuple[str, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Name of the runtime for such a file, and a function from uint8 images ``(n, 3, H, W)`` to logits and probabilities."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the loader, about weights of which only a part is used
        module = torch.export.load(io.BytesIO(stored)).module()

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logits, probabilities = module(network.given(images))
        return logits, probabilities

    return f"torch.export of torch {torch.__version__}, loaded again", run
