"""ONNX files: opset and graph by PyTorch's exporter, checked by onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from robust_transfer.errors import ConfigError, NetworkError
from robust_transfer.exporting.deployed import OUTPUTS, PIXELS, Deployed
from robust_transfer.messages import errors_only

NEEDED = ("onnx", "onnxruntime", "onnxscript")
MOST_BYTES = 2**31 - 1  # of one file: protobuf's limit


def to_proto(network: Deployed) -> Any:
    """Network as an ``onnx.ModelProto``. Raises :class:`NetworkError` for one that cannot be converted."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{missing[0]} is not installed: pip install 'robust-transfer[export]'")
    with warnings.catch_warnings(), errors_only("torch.onnx"), errors_only("onnxscript"):
        warnings.simplefilter("ignore")  # of the exporter, about its own ways
        try:
            made: Any = torch.onnx.export(
                network,
                (network.example,),
                input_names=[PIXELS],
                output_names=list(OUTPUTS),
                dynamo=True,
                dynamic_shapes={PIXELS: network.dynamic},
                verbose=False,
            )
        except Exception as error:  # the exporter raises whatever its parts raise
            told = str(error).strip().splitlines()
            raise NetworkError(
                f"the network has no form in ONNX: {told[0] if told else type(error).__name__}"
            ) from None
    proto = made.model_proto
    if proto.ByteSize() > MOST_BYTES:
        raise NetworkError(
            f"the network takes {proto.ByteSize() / 2**30:.1f} GiB, and an ONNX file no more than 2: export it to torch"
        )
    return proto


def runner(content: bytes, network: Deployed) -> tuple[str, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Name of the runtime for an ONNX file, and a function from uint8 images ``(n, 3, H, W)`` to logits and probabilities."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = session.run(list(OUTPUTS), {PIXELS: network.given(images).numpy()})
        return torch.from_numpy(logits), torch.from_numpy(probabilities)

    return f"onnxruntime {onnxruntime.__version__}", run
