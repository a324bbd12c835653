"""Fast read-only copies of networks for attack steps; the network itself confirms their results.

In a copy, batch norm after a convolution is folded into it, weights are stored in the steps' precision, and only the
image requires a gradient. Heads and losses stay in float32.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer.classifier import Classifier
from robust_transfer.compiling import keep_compiled


@dataclass(frozen=True)
class Engine:
    """Computation of attack steps: in ``dtype`` and, if ``folded``, on copies of the networks.

    ``compiled``: the copies' gradients by ``torch.compile``, which takes seconds for every new size of a batch.
    ``sizes``: pass sizes on the CPU (ascending) that give the same rows as the usual one, bit for bit: they fill the
    machine without affecting any verdict. Without them all passes have the usual size. ``tight``: passes on the CPU
    shrink by powers of two as examples leave. That is several times as fast for small samples; but kernels are chosen
    by the batch's size, so a row's last bits then depend on the number of rows. Copies are made once and kept as long
    as the engine, so weights must not change meanwhile; in training ``folded`` is false, and other precisions than
    float32 use autocast.
    """

    dtype: torch.dtype = torch.float32
    folded: bool = True
    compiled: bool = False
    tight: bool = False
    sizes: tuple[int, ...] = ()
    _bodies: dict[tuple[int, torch.dtype], tuple[nn.Module, nn.Module]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def precision(self) -> str:
        """``float32`` or ``bfloat16``."""
        return str(self.dtype).removeprefix("torch.")

    def of(self, module: nn.Module) -> nn.Module:
        """Fast version of ``module``: the same outputs, up to the precision, for the same images in [0, 1].

        A :class:`Classifier`, or a module built on classifiers, is copied; any other module runs itself, under
        autocast.
        """
        classifiers = [part for part in module.modules() if isinstance(part, Classifier)]
        if classifiers and self.folded:
            swapped: dict[int, Any] = {id(part.body): self._body(part) for part in classifiers}
            return copy.deepcopy(module, swapped).eval().requires_grad_(False)
        return module if self.dtype is torch.float32 else _Autocast(module, self.dtype)

    def in_float32(self) -> Engine:
        """Same engine in float32, not compiled, with passes of the usual size."""
        return replace(self, dtype=torch.float32, compiled=False, sizes=(), _bodies={})

    def _body(self, classifier: Classifier) -> nn.Module:
        key = id(classifier.body), self.dtype
        if key not in self._bodies:  # the body is kept beside its copy, so that its id stays its own
            self._bodies[key] = (classifier.body, _Body(_fold(classifier), self.dtype, self.compiled))
        return self._bodies[key][1]


@contextmanager
def exact_float32() -> Iterator[None]:
    """Disable TensorFloat-32 and the like inside the block: their noise exceeds a verdict's margin."""
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    cpu: Any = torch.backends.mkldnn
    # A verdict's noise bound is that of float32. TensorFloat-32 has ten bits: margins would move by more than the bound,
    # and an attack could "break" an image that the model classifies rightly.
    with ExitStack() as stack:
        for holder in (cudnn, cuda.matmul):
            # PyTorch has two interfaces; the older one is not readable once the newer one has been used
            with suppress(RuntimeError):
                if holder.allow_tf32:
                    holder.allow_tf32 = False
                    stack.callback(setattr, holder, "allow_tf32", True)
        for operators in (cudnn.conv, cudnn.rnn, cuda.matmul, cpu.conv, cpu.matmul):
            if operators.fp32_precision not in ("none", "ieee"):
                stack.callback(setattr, operators, "fp32_precision", operators.fp32_precision)
                operators.fp32_precision = "ieee"
        yield


def fuse(body: nn.Module) -> nn.Module:
    """Copy of a module with batch norm folded into the convolutions before it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older versions warn, on import, of ways of their own
        from torch.fx.experimental import optimization
    return optimization.fuse(body)


def _fold(classifier: Classifier) -> nn.Module:
    """Float32 copy of a classifier's body in evaluation mode, batch norm folded into convolutions where possible."""
    body = copy.deepcopy(classifier.body).eval().requires_grad_(False)
    size = classifier.spec.input_size
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(classifier.device)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = body(x)
        try:
            folded = fuse(body)
            found = folded(x)
        except Exception:  # tracing knows not every network, and says so in many ways
            return body
    exact = bool((found - wanted).abs().max() <= 1e-4 * wanted.abs().max())
    return folded.requires_grad_(False) if exact else body


class _Body(nn.Module):
    """Body that computes in ``dtype``. Batch norm keeps its own statistics in float32."""

    def __init__(self, body: nn.Module, dtype: torch.dtype, compiled: bool = False) -> None:
        super().__init__()
        self.body: nn.Module = cast(Any, body).to(dtype=dtype, memory_format=torch.channels_last)
        self.dtype = dtype
        for part in self.body.modules():
            if isinstance(part, _BatchNorm):
                part.float()
        if compiled:
            keep_compiled()
        self.compiled: Callable[[Tensor], Any] | None = torch.compile(self.body, dynamic=False) if compiled else None

    def forward(self, x: Tensor) -> Tensor:
        """Penultimate features of normalised images."""
        # passes without a gradient are few: not worth a graph of their own
        if self.compiled is None or not torch.is_grad_enabled():
            return cast(Tensor, self.body(x.to(self.dtype)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the compiler's, about its own ways
            return cast(Tensor, self.compiled(x.to(self.dtype)))


class _Autocast(nn.Module):
    """Module under autocast to ``dtype``."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module, dtype

    def forward(self, x: Tensor) -> Tensor:
        """Output of the module."""
        with torch.autocast(x.device.type, self.dtype):
            return cast(Tensor, self.module(x))
