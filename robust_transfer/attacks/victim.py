"""Model under attack: queries, their cost, and the criterion for a break."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from robust_transfer import losses
from robust_transfer.classifier import Classifier
from robust_transfer.engine import Engine, exact_float32
from robust_transfer.errors import NetworkError
from robust_transfer.modes import call, eval_mode, without_weight_gradients
from robust_transfer.pass_sizes import cover, smaller, usual_chunk
from robust_transfer.progress import tick

NOISE = 1e-4  # relative float32 noise of a margin; a break must exceed it (see `is_broken`)


@dataclass(frozen=True)
class Knowledge:
    """Knowledge of an attacker beside the model: its public source network, and images with labels.

    ``images`` ``(n, C, H, W)`` in [0, 1] and ``labels`` ``(n,)`` are the same for every example that is attacked.
    """

    source: Classifier
    images: Tensor
    labels: Tensor


@dataclass
class Victim:
    """Model under attack; answers queries and counts their cost.

    ``passes`` counts forward-equivalent image passes: 1 for a forward pass of an image, 2 with its input gradient.
    With ``chunk`` every pass takes exactly so many images, or one of the engine's sizes; a short last one is filled
    up (not counted). Without it a pass takes all images, up to ``most``. ``knowledge``: the attacker's knowledge
    beside the model. ``unconfirmed`` counts iterates that broke the model in the engine's precision but not in
    float32. ``draws``: number of passes over which gradients and their logits are averaged, for a random model
    (expectation over transformation, Athalye et al. 2018, section 4.2). ``answers``: number of float32 passes whose mean
    decides on such a model.
    """

    model: nn.Module
    device: torch.device
    engine: Engine = field(default_factory=lambda: Engine(folded=False))
    passes: int = 0
    unconfirmed: int = 0
    chunk: int | None = None
    most: int | None = None
    knowledge: Knowledge | None = None
    draws: int = 1
    answers: int = 1

    def __post_init__(self) -> None:
        self._fast = self.engine.of(self.model)

    def logits(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` by a float32 forward pass of the model itself; the mean of several for a random model."""
        if self.answers == 1:
            return self._logits(self.model, x)
        return torch.stack([self._logits(self.model, x) for _ in range(self.answers)]).mean(0)

    def guess(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` by the engine; :meth:`judge` confirms them in float32."""
        return self._logits(self._fast, x)

    def gradient(self, x: Tensor, labels: Tensor, loss: losses.Loss) -> tuple[Tensor, Tensor]:
        """``(logits, d loss / d x)`` at ``x``, computed by the engine; weights get no gradient.

        ``labels`` may be anything with a row an example that ``loss`` takes. A gradient that does not exist or is not
        a number is 0.
        """
        self._count(2 * len(x) * self.draws)
        x = self._laid_out(x)
        chunks = zip(self._chunks(x), self._chunks(labels), strict=True)
        logits, gradients = zip(*[self._mean_gradient(some, own, loss) for some, own in chunks], strict=True)
        return torch.cat(logits)[: len(x)], torch.cat(gradients)[: len(x)].nan_to_num()

    def judge(self, x: Tensor, labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """``(broken, score)`` of iterates with the ``logits`` of their step, recomputed if these do not decide.

        Those of another precision than float32 do not, nor does one answer of a random model.

        ``broken`` asks for twice the noise margin of the final verdict, so that the verdict confirms every break.
        ``score`` orders an example's iterates: the margin, or infinity for what the verdict will call a break.
        """
        doubtful = losses.margin(logits, labels) > 0
        if (self.engine.dtype is not torch.float32 or self.answers > 1) and doubtful.any():
            claimed, logits = is_broken(logits, labels), logits.clone()
            logits[doubtful] = self.logits(x[doubtful])
            self.unconfirmed += int((claimed & ~is_broken(logits, labels)).sum())
        score = losses.margin(logits, labels).masked_fill(is_broken(logits, labels), torch.inf)
        # A pass of another batch may move a margin by the noise: at once the noise, an example given up here could stand
        # again in the final verdict, unattacked. Twice leaves room for both passes.
        return is_broken(logits, labels, noise=2 * NOISE), score

    @contextmanager
    def beside(self, module: nn.Module) -> Iterator[Victim]:
        """Another network, queried in the same way in evaluation mode; its passes are counted here."""
        with eval_mode(module), without_weight_gradients(module):
            engine = replace(self.engine, sizes=())  # these were tried out for the model
            other = replace(self, model=module, engine=engine, passes=0, unconfirmed=0)
            try:
                yield other
            finally:
                self.passes += other.passes
                self.unconfirmed += other.unconfirmed

    def _count(self, passes: int) -> None:
        self.passes += passes
        tick(passes)

    def _logits(self, model: nn.Module, x: Tensor) -> Tensor:
        self._count(len(x))
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            chunks = self._chunks(self._laid_out(x))
            return torch.cat([_forward(model, some).float() for some in chunks])[: len(x)]

    def _mean_gradient(self, x: Tensor, labels: Tensor, loss: losses.Loss) -> tuple[Tensor, Tensor]:
        found = [self._one_gradient(x, labels, loss) for _ in range(self.draws)]
        if len(found) == 1:
            return found[0]
        logits, gradients = zip(*found, strict=True)
        return torch.stack(logits).mean(0), torch.stack(gradients).mean(0)

    def _one_gradient(self, x: Tensor, labels: Tensor, loss: losses.Loss) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_(True)
        # a caller's autocast is switched off: the backward pass would take it up, too
        with torch.enable_grad(), torch.autocast(self.device.type, enabled=False):
            logits = _forward(self._fast, x).float()
            total = loss(logits, labels).sum()
            if not total.requires_grad:  # the logits do not depend on the image, or not differentiably
                return logits, torch.zeros_like(x)
            (gradient,) = torch.autograd.grad(total, x, materialize_grads=True)
        return logits.detach(), gradient

    def _laid_out(self, x: Tensor) -> Tensor:
        """Channels-last images for our own networks; third-party code may call ``view``, which fails on that layout."""
        ours = isinstance(self.model, Classifier)
        return x.contiguous(memory_format=torch.channels_last if ours else torch.contiguous_format)

    def _chunks(self, rows: Tensor) -> tuple[Tensor, ...]:
        if self.chunk is None:
            return torch.split(rows, self.most or max(len(rows), 1))
        if not len(rows):
            return (rows,)
        sizes = cover(len(rows), self._sizes(self.chunk))
        missing = sum(sizes) - len(rows)
        chunks = list(torch.split(rows, [*sizes[:-1], sizes[-1] - missing]))
        chunks[-1] = torch.cat([chunks[-1], rows[:1].repeat(missing, *[1] * (rows.dim() - 1))])
        return tuple(chunks)

    def _sizes(self, chunk: int) -> tuple[int, ...]:
        """Allowed pass sizes. Compiled steps have one unless others were tried: each size would compile anew."""
        if self.engine.sizes:
            return self.engine.sizes
        return smaller(chunk) if self.engine.tight and not self.engine.compiled else (chunk,)


def _forward(model: nn.Module, x: Tensor) -> Tensor:
    logits = call(model, x)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(f"the model must return logits (batch, classes) for images, not {found}")
    if logits.is_complex() or logits.dtype is torch.bool:
        raise NetworkError(f"the model must return logits that are real numbers, not {logits.dtype}")
    return logits


@contextmanager
def attacking(
    model: nn.Module,
    device: torch.device,
    engine: Engine | None = None,
    knowledge: Knowledge | None = None,
    most: int | None = None,
    size: int | None = None,
    draws: int = 1,
    answers: int = 1,
) -> Iterator[Victim]:
    """Put ``model`` into evaluation mode without weight gradients, in exact float32, and yield it as a :class:`Victim`.

    Without an ``engine`` the model itself computes the steps. Passes take ``most`` images, where the device asks for no
    number of its own, which depends on their ``size`` in pixels; a classifier's is its own. ``draws``, ``answers``: see
    :class:`Victim`.
    Afterwards every submodule's mode and every weight's ``requires_grad`` are what they were.
    """
    with eval_mode(model), without_weight_gradients(model), exact_float32():
        engine = engine or Engine(folded=False)
        size = model.spec.input_size if isinstance(model, Classifier) else size
        yield Victim(
            model,
            device,
            engine,
            chunk=usual_chunk(device, size),
            most=most,
            knowledge=knowledge,
            draws=draws,
            answers=answers,
        )


def is_broken(logits: Tensor, labels: Tensor, noise: float = NOISE) -> Tensor:
    """Mask ``(B,)``: misclassified beyond numerical noise, or with logits that are not numbers.

    The margin must exceed ``noise`` times the size of the two logits that it compares, or times the range of all of
    them where that is less: neither a constant added to all logits nor a class that is far below the others makes an
    example harder to break.
    """
    own, others = losses.own_and_others(logits, labels)
    best = others.amax(1)
    lowest = logits.masked_fill(logits.isneginf(), torch.inf).amin(1)  # a class may be ruled out by -inf
    size = torch.minimum(own.abs() + best.abs(), logits.amax(1) - lowest)
    return (best - own > noise * size) | ~_numbers(logits)


def predicted(logits: Tensor) -> Tensor:
    """Predicted classes ``(B,)``; -1 where the logits are not numbers."""
    return torch.where(_numbers(logits), logits.argmax(1), -1)


def _numbers(logits: Tensor) -> Tensor:
    return ~(logits.isnan() | logits.isposinf()).any(1) & logits.isfinite().any(1)
