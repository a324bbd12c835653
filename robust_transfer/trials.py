"""Trials of engines: precision, compilation and pass sizes of attack steps, decided on a sample."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from robust_transfer import hardware
from robust_transfer.attacks.victim import attacking
from robust_transfer.classifier import Classifier
from robust_transfer.config import digest
from robust_transfer.engine import Engine, exact_float32
from robust_transfer.losses import cross_entropy
from robust_transfer.modes import call, eval_mode, without_weight_gradients
from robust_transfer.pass_sizes import agreeing, full_chunk, smaller, usual_chunk
from robust_transfer.progress import stage
from robust_transfer.remembered import recall, remember
from robust_transfer.run import Run

MIN_SPEEDUP = 1.1  # bfloat16, or compiled steps, must be so many times as fast, or they are not used
MAX_SLOWDOWN = 1 / MIN_SPEEDUP  # hardware with units for bfloat16 must be slower by as much, or it is used
MIN_COSINE = 0.9  # median cosine between the gradients of both precisions, or bfloat16 is not used
# Seconds of attacking from which on a trial can pay. Compiling takes one or two minutes, where it was done before seconds.
WORTH_COMPILING, WORTH_LOADING, WORTH_SIZING = 300.0, 15.0, 5.0
WORTH_TIMING = 4000.0  # image passes
TRIAL_IMAGES = 64  # where passes have no size of their own


def sample_size(device: torch.device, size: int | None, run: Run) -> int:
    """Number of images of ``size`` pixels a side for :func:`choose`: a full pass."""
    return full_chunk(device, size, run.dtype()) or TRIAL_IMAGES


def choose(module: nn.Module, sample: Callable[[], tuple[Tensor, Tensor]], run: Run, *, passes: float = 0.0) -> Engine:
    """Engine for ``module``; where there is a choice, it is tried on images ``(n, C, H, W)`` with labels.

    With ``run.precision`` ``auto``, bfloat16 is taken where the hardware gains by it, if a step is then at least 1.1
    times as fast (with matrix units for it: not 1.1 times as slow) and the gradients still point the same way (median
    cosine at least 0.9). On the CPU, if so many image ``passes`` take long enough, ``torch.compile`` is tried in the
    same way, and several pass sizes are allowed, as far as they give the same rows, bit for bit. Whether compiling
    gained is stored for the next time on this machine.
    """
    engine = Engine(run.dtype())
    precision = run.precision == "auto" and engine.dtype is not torch.float32
    passes = passes if run.torch_device().type == "cpu" else 0.0
    if not precision and passes < WORTH_TIMING:
        return engine
    x, labels = sample()
    usual = usual_chunk(x.device, x.shape[-1]) or len(x)
    if precision:
        bar = MAX_SLOWDOWN if hardware.has_matrix_units(x.device) else MIN_SPEEDUP
        with stage("trying out bfloat16", None, run.quiet):
            engine = better(Engine(), engine, module, x[:usual], labels[:usual], bar)
    if passes < WORTH_TIMING:
        return engine
    full = min(len(x), full_chunk(x.device, x.shape[-1], engine.dtype) or len(x))
    if full < usual:
        return engine
    return _Trial(module, x[:full], labels[:full], usual).best(engine, passes, run.quiet)


@dataclass(frozen=True)
class _Trial:
    """Trial of engine variants for a module on the CPU: on as many images as a full pass takes."""

    module: nn.Module
    x: Tensor
    labels: Tensor
    usual: int

    def best(self, engine: Engine, passes: float, quiet: bool) -> Engine:
        """``engine``, compiled if that pays for so many image passes, with its pass sizes."""
        step = seconds_of(engine, self.module, self.x[: self.usual], self.labels[: self.usual])
        seconds = passes / 2 / self.usual * step
        if any(isinstance(part, Classifier) for part in self.module.modules()):
            engine = self._compiled(engine, seconds, quiet)
        if seconds <= WORTH_SIZING:
            return engine
        with stage("trying out sizes of passes", None, quiet):
            return replace(engine, sizes=self._sizes(engine))

    def _compiled(self, engine: Engine, seconds: float, quiet: bool) -> Engine:
        """Faster of ``engine`` and its compiled form, which is not tried where it cannot pay, or did not gain before.

        Stored results only predict the cost and use of a trial: another network may have the same name.
        """
        compiled = replace(engine, compiled=True, _bodies={})
        gained = recall(key := self._key(compiled)).get("gains")
        if gained is False or seconds <= (WORTH_LOADING if gained else WORTH_COMPILING):
            return engine
        with stage("trying out compiled steps", None, quiet):
            found = better(engine, compiled, self.module, self.x, self.labels)
        remember(key, gains=found.compiled)
        return found

    def _sizes(self, engine: Engine) -> tuple[int, ...]:
        """Pass sizes with the same rows as the usual one; when compiled, each size takes its time."""
        full = len(self.x)
        whole = full // self.usual * self.usual
        sizes = [size for size in ((self.usual, full) if engine.compiled else smaller(full)) if size <= whole]
        parts = [self._rows(engine, slice(i, i + self.usual)) for i in range(full - whole, full, self.usual)]
        usual = [torch.cat(each) for each in zip(*parts, strict=True)]
        agree = agreeing({size: self._rows(engine, slice(full - size, full)) for size in sizes}, usual)
        return agree if self.usual in agree else (self.usual,)

    def _rows(self, engine: Engine, some: slice) -> list[Tensor]:
        """All computations of an attack in one pass: logits and gradient of a step, logits alone, the model's own."""
        x, labels = self.x[some], self.labels[some]
        with attacking(self.module, x.device, replace(engine, sizes=(len(x),))) as target:
            return [*target.gradient(x, labels, cross_entropy), target.guess(x), target.logits(x)]

    def _key(self, engine: Engine) -> str:
        """Key of a kind of network and its computation; the folder identifies the machine and PyTorch."""
        specs = [
            (p.spec.name, p.spec.settings, p.num_classes) for p in self.module.modules() if isinstance(p, Classifier)
        ]
        how = engine.precision, torch.get_num_threads(), list(self.x.shape)
        return digest("compiled steps", type(self.module).__name__, specs, *how)


def seconds_of(engine: Engine, module: nn.Module, x: Tensor, labels: Tensor) -> float:
    """Seconds of a step on these images; 0 where it fails."""
    with eval_mode(module), without_weight_gradients(module), exact_float32(), suppress(RuntimeError, TypeError):
        if _fits(module, x, labels):
            threads = torch.get_num_threads() if x.device.type == "cpu" else 1
            return min(_timed(engine.of(module), x, labels)[0] for _ in range(3)) / threads
    return 0.0


def better(
    exact: Engine, fast: Engine, module: nn.Module, x: Tensor, labels: Tensor, bar: float = MIN_SPEEDUP
) -> Engine:
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
    return fast if gains and bool(cosine.nan_to_num().median() >= MIN_COSINE) else exact


def _fits(module: nn.Module, x: Tensor, labels: Tensor) -> bool:
    """True if the module returns logits with a column for every label."""
    with torch.no_grad():
        logits = call(module, x)
    return isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] > int(labels.max())


def _timed(module: nn.Module, x: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Seconds of one step, by :func:`hardware.seconds`, and its gradient."""
    at = x.detach().clone().requires_grad_(True)
    started = hardware.seconds(x.device)
    (gradient,) = torch.autograd.grad(cross_entropy(call(module, at).float(), labels).sum(), at)
    return hardware.seconds(x.device) - started, gradient


def _seconds(module: nn.Module, x: Tensor, labels: Tensor) -> float:
    return _timed(module, x, labels)[0]
