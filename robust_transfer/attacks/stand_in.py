"""Attack through smooth stand-ins of operations that hide gradients (BPDA, Athalye et al. 2018, section 4.1).

Rounding, thresholds and detached layers have the gradient 0, or none. What is climbed here computes the same forward
pass, and its backward pass takes such an operation for the identity; what counts is what the model itself says of where
that leads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from robust_transfer import losses
from robust_transfer.attacks.apgd import Climb, climb
from robust_transfer.attacks.base import ATTACKS, SURVIVAL_SHARE, Attack, BestSoFar
from robust_transfer.attacks.victim import Victim
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.modes import call
from robust_transfer.threat import Threat

# Operations whose gradient is 0 where it exists, and those that are flat beyond a threshold.
FLAT = ("round", "floor", "ceil", "trunc", "sign", "detach", "clamp", "clip")


class StandIn(nn.Module):
    """A model with the same logits whose gradient passes through what hides it; ``replaced`` counts such operations.

    Seen are calls of PyTorch's own functions: rounding, sign, detach, clamp, ``where`` (which passes the gradient to both
    of its sides), and modules whose output has the input's shape and lost its gradient on the way.
    """

    keeps_input = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.replaced = 0

    def forward(self, x: Tensor) -> Any:
        """The model's output."""
        with self._hooked(), _Identity(self):
            return call(self.model, x)

    def replaces(self, x: Tensor) -> bool:
        """True if anything is replaced on the way of ``x``."""
        before = self.replaced
        try:
            with torch.enable_grad():
                self(x.detach().requires_grad_(True))
        except Exception:  # foreign code that cannot be followed, compiled for instance
            return False
        return self.replaced > before

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        """Modules inside that lose the gradient become the identity's backward pass."""
        hooks = [part.register_forward_hook(self._pass_on) for part in self.model.modules() if part is not self.model]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _pass_on(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
        x = given[0] if len(given) == 1 else None
        tensors = isinstance(x, Tensor) and isinstance(output, Tensor)
        if (
            not tensors
            or not cast(Tensor, x).requires_grad
            or output.requires_grad
            or output.shape != cast(Tensor, x).shape
        ):
            return output
        self.replaced += 1
        return _straight_through(output, cast(Tensor, x))


class _Identity(TorchFunctionMode):
    """Calls of PyTorch's functions inside the block, those in :data:`FLAT` with the identity's gradient."""

    def __init__(self, owner: StandIn) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name not in FLAT and name != "where":
            return func(*args, **kwargs)
        sides = [a for a in (args[1:] if name == "where" else args[:1]) if _climbable(a)]
        if not sides:
            return func(*args, **kwargs)
        self.owner.replaced += 1
        return _straight_through(func(*args, **kwargs).detach(), *sides)


def _climbable(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad and value.is_floating_point()


def _straight_through(output: Tensor, *sides: Tensor) -> Tensor:
    """``output``, bit for bit, with the gradient of the sum of ``sides``."""
    return cast(Tensor, _StraightThrough.apply(output, *sides))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, *sides: Tensor) -> Tensor:
        ctx.shapes = [side.shape for side in sides]
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(gradients[0].sum_to_size(shape) for shape in ctx.shapes))


@ATTACKS.register(
    "stand-in",
    summary="climbs through rounding, thresholds and detached layers, and tries the result on the model",
    paper="Athalye et al. 2018, section 4.1 (BPDA)",
)
@config
class ThroughStandIn(Attack):
    """``steps`` steps of Auto-PGD on log odds, then as many on the margin, of a stand-in without flat operations.

    Every iterate is scored by the model. A model without such operations is climbed as it is.
    """

    steps: int = 20

    count: ClassVar[str | None] = "steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ConfigError("stand-in needs at least 1 step")

    @property
    @override
    def most_steps(self) -> int:
        return 2 * self.steps

    @property
    @override
    def passes(self) -> float:
        return 3.0 + SURVIVAL_SHARE * (2.0 * self.eot + 1) * self.most_steps

    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Return, per example, a breaking iterate or else the one with the largest margin."""
        worst, rows, stand_in = BestSoFar(x), torch.arange(len(x), device=x.device), StandIn(target.model)
        with target.beside(stand_in) as guide:
            for name in ("ce", "margin"):
                loss, aim = losses.settle(losses.get_loss(name), lambda: target.guess(x), labels)
                start = threat.random_start(x[rows], ids[rows], seed=seed, purpose=f"stand-in/{name}")
                climbs = Climb.begin(rows, x[rows], labels[rows], aim[rows], start, threat.eps)
                rows = climb(target, climbs, loss, threat, self.steps, worst, guide=guide)
                if not len(rows):
                    break
        return worst.images
