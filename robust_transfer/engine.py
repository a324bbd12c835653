"""Fast read-only copies of networks for the steps of attacks; the network itself confirms what they find.

In a copy, batch norm after a convolution is folded into it, weights are stored in the precision that steps run in, and
nothing asks for a gradient but the image. Heads and losses stay in float32.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer import hardware
from robust_transfer.classifier import Classifier
from robust_transfer.losses import cross_entropy
from robust_transfer.modes import call, eval_mode, without_weight_gradients
from robust_transfer.progress import stage
from robust_transfer.run import Run

GAIN = 1.1  # bfloat16, or compiled steps, must be so many times as fast, or they are not used
TRUSTED = 1 / GAIN  # hardware with units for bfloat16 must be slower by as much, or it is used
AGREEMENT = 0.9  # median cosine between the gradients of both precisions, or bfloat16 is not used
WORTH_COMPILING = 60.0  # seconds of attacking, from which on compiling, which takes some ten, can pay
FASTEST_PASS = 1e-5  # seconds that an image pass takes at the very least: what is short by far is not timed


@dataclass(frozen=True)
class Engine:
    """Computation of attack steps: in ``dtype`` and, if ``folded``, on copies of the networks.

    ``compiled``: the copies' gradients by ``torch.compile``, which takes seconds for every new size of a batch.
    ``tight``: where few images are left, passes on the CPU get smaller by powers of two. That is several times as fast for
    small samples; but kernels are chosen by the batch's size, so a row's last bits then depend on how many rows there are.
    Copies are made once and kept as long as the engine, so weights must not change meanwhile; where they do (in
    training) ``folded`` is false, and other precisions than float32 are reached by autocast.
    """

    dtype: torch.dtype = torch.float32
    folded: bool = True
    compiled: bool = False
    tight: bool = False
    _bodies: dict[tuple[int, torch.dtype], tuple[nn.Module, nn.Module]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def precision(self) -> str:
        """``float32`` or ``bfloat16``."""
        return str(self.dtype).removeprefix("torch.")

    def of(self, module: nn.Module) -> nn.Module:
        """``module`` as steps see it: the same outputs, up to the precision, for the same images in [0, 1].

        A :class:`Classifier`, or what is built on classifiers, is copied; anything else is taken as it is, under
        autocast.
        """
        classifiers = [part for part in module.modules() if isinstance(part, Classifier)]
        if classifiers and self.folded:
            swapped: dict[int, Any] = {id(part.body): self._body(part) for part in classifiers}
            return copy.deepcopy(module, swapped).eval().requires_grad_(False)
        return module if self.dtype is torch.float32 else _Autocast(module, self.dtype)

    def in_float32(self) -> Engine:
        """Same in float32, not compiled."""
        return replace(self, dtype=torch.float32, compiled=False, _bodies={})

    def _body(self, classifier: Classifier) -> nn.Module:
        key = id(classifier.body), self.dtype
        if key not in self._bodies:  # the body is kept beside its copy, so that its id stays its own
            self._bodies[key] = (classifier.body, _Body(_fold(classifier), self.dtype, self.compiled))
        return self._bodies[key][1]


def choose(module: nn.Module, sample: Callable[[], tuple[Tensor, Tensor]], run: Run, *, passes: float = 0.0) -> Engine:
    """Engine for ``module``; where there is a choice, images ``(n, C, H, W)`` and labels are asked for to try it out.

    With ``run.precision`` ``auto``, bfloat16 is taken where the hardware gains by it, if a step is then at least
    1.1 times as fast (with matrix units for it: not 1.1 times as slow) and the gradients still point the same way
    (median cosine at least 0.9). On the CPU, where batches
    have one size, ``torch.compile`` is tried in the same way if so many image ``passes`` will take minutes.
    """
    engine = Engine(run.dtype())
    long = passes * FASTEST_PASS > WORTH_COMPILING and run.torch_device().type == "cpu" and _is_ours(module)
    if not long and (run.precision != "auto" or engine.dtype is torch.float32):
        return engine
    x, labels = sample()
    if run.precision == "auto" and engine.dtype is not torch.float32:
        bar = TRUSTED if hardware.has_matrix_units(x.device) else GAIN
        with stage("trying out bfloat16", None, run.quiet):
            engine = better(Engine(), engine, module, x, labels, bar)
    if long and passes / 2 / len(x) * seconds_of(engine, module, x, labels) > WORTH_COMPILING:
        with stage("trying out compiled steps", None, run.quiet):
            engine = better(engine, replace(engine, compiled=True, _bodies={}), module, x, labels)
    return engine


def seconds_of(engine: Engine, module: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Seconds that a step on these images takes; 0 where it cannot be made."""
    with eval_mode(module), without_weight_gradients(module), exact_float32(), suppress(RuntimeError, TypeError):
        if _fits(module, x, labels):
            threads = torch.get_num_threads() if x.device.type == "cpu" else 1
            return min(_timed(engine.of(module), x, labels)[0] for _ in range(3)) / threads
    return 0.0


def _is_ours(module: nn.Module) -> bool:
    return any(isinstance(part, Classifier) for part in module.modules())


def better(exact: Engine, fast: Engine, module: nn.Module, x: Tensor, labels: Tensor, bar: float = GAIN) -> Engine:
    """``fast`` if it is ``bar`` times as fast on these images and does no harm, else ``exact``."""
    with eval_mode(module), without_weight_gradients(module), exact_float32():
        if not _fits(module, x, labels):
            return exact  # the attack will say so
        try:
            gradients = [_timed(engine.of(module), x, labels)[1] for engine in (exact, fast)]
            times = [partial(_seconds, engine.of(module), x, labels) for engine in (exact, fast)]
            gains = hardware.gain(times[0], times[1], bar) >= bar
        except (RuntimeError, TypeError):  # the network cannot compute in that precision, or cannot be compiled
            return exact
    cosine = cosine_similarity(gradients[0].flatten(1), gradients[1].flatten(1), dim=1)
    return fast if gains and bool(cosine.nan_to_num().median() >= AGREEMENT) else exact


def _fits(module: nn.Module, x: Tensor, labels: Tensor) -> bool:
    """True if the module returns logits with a column for every label."""
    with torch.no_grad():
        logits = call(module, x)
    return isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] > int(labels.max())


def _timed(module: nn.Module, x: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Seconds of one step, by :func:`hardware.seconds`, and its gradient."""
    at = x.detach().clone().requires_grad_(True)
    begun = hardware.seconds(x.device)
    (gradient,) = torch.autograd.grad(cross_entropy(call(module, at).float(), labels).sum(), at)
    return hardware.seconds(x.device) - begun, gradient


def _seconds(module: nn.Module, x: Tensor, labels: Tensor) -> float:
    return _timed(module, x, labels)[0]


@contextmanager
def exact_float32() -> Iterator[None]:
    """float32 means float32 inside the block: no TensorFloat-32 and the like, whose noise exceeds a verdict's."""
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
    """Float32 copy of a classifier's body in evaluation mode, batch norm folded into convolutions where it can be."""
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
