"""An attack step's FLOP/s as a share of the machine's own matrix product, and the layers that its time goes to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import torch
from cases import Case
from common import header, measured
from table import Row
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_transfer import losses
from robust_transfer.attacks.victim import attacking
from robust_transfer.classifier import Classifier
from robust_transfer.engine import Engine
from robust_transfer.pass_sizes import usual_chunk
from robust_transfer.run import Run

ROUNDS = 3


def peak(case: Case, repeats: int, by_layer: bool = True) -> list[Row]:
    """FLOP/s of steps, for each way to compute them, beside the machine's matrix product; ``by_layer``: where time goes to.

    In float32, and in bfloat16 where the hardware has units for it. The ratio is the share of the peak.
    """
    header("share of the matrix-product peak", network=case.model.spec.name, repeats=repeats, rounds=ROUNDS)
    found: list[Row] = []
    for dtype in dict.fromkeys((torch.float32, Run().dtype())):
        rows = shares(case, dtype, repeats)
        found += rows.values()
        if by_layer:
            layers(case, Engine(dtype), 1e9 * rows["matrix product"].median)
    return found


def shares(case: Case, dtype: torch.dtype, repeats: int) -> dict[str, Row]:
    """GFLOP/s of the largest matrix products, and of steps computed in each way."""
    flops, plain = flops_of(case.model, case.x[:1]), "autocast" if dtype is torch.bfloat16 else "plain"
    ways = {plain: Engine(dtype, folded=False), "folded": Engine(dtype), "compiled": Engine(dtype, compiled=True)}

    def product_rate() -> float:
        return max(product(size, dtype, case.x.device) for size in (1024, 2048, 4096)) / 1e9

    def rate(engine: Engine) -> float:
        return flops / step_seconds(case, engine) / 1e9

    tasks: dict[str, Callable[[], float]] = {"matrix product": product_rate}
    tasks |= {name: partial(rate, engine) for name, engine in ways.items()}
    what = f"a step of {case.model.spec.name}, {ways['folded'].precision}"
    return measured(what, tasks, repeats, unit="GFLOP/s")


def step_seconds(case: Case, engine: Engine, n: int | None = None) -> float:
    """Seconds an image of one gradient of ``n`` images (default: four full batches), median of :data:`ROUNDS`."""
    n = n or (usual_chunk(case.x.device) or 512) * 4
    x, labels = _filled(case, n)
    with attacking(case.model, x.device, engine) as target:
        return _median(lambda: target.gradient(x, labels, losses.cross_entropy)[1].sum().item()) / n


def forward_seconds(case: Case, engine: Engine) -> float:
    """Seconds an image of a float32 pass of the network itself, without a gradient."""
    n = (usual_chunk(case.x.device) or 512) * 4
    x, _ = _filled(case, n)
    with attacking(case.model, x.device, engine) as target:
        return _median(lambda: target.logits(x).sum().item()) / n


def product(size: int, dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a square matrix product."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _median(lambda: (a @ b).sum().item())


def flops_of(model: Classifier, x: Tensor) -> float:
    """Floating-point operations of one image's logits and input gradient: the latter takes as many as the former."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return 2.0 * int(counter.get_total_flops())


def layers(case: Case, engine: Engine, best: float) -> None:
    """Each kind of layer of the copy that steps run on, timed alone: its share of a step, and of the peak."""
    n = usual_chunk(case.x.device) or 512
    x, _ = _filled(case, n)
    whole = step_seconds(case, engine) * n
    fast = engine.of(case.model)
    with torch.no_grad(), _inputs(fast) as seen:
        fast(x)
    kinds = Counter((_told(layer, like), type(layer)) for layer, like in seen)
    alone = {_told(layer, like): _alone(layer, like) for layer, like in seen}
    work = {_told(layer, like): _flops(layer, like) for layer, like in seen}
    known = 0.0
    for (told, kind), count in sorted(kinds.items(), key=lambda item: -item[1] * alone[item[0][0]]):
        seconds = count * alone[told]
        known += seconds
        share = f", {count * work[told] / seconds / best:.2f} of the peak" if issubclass(kind, nn.Conv2d) else ""
        print(
            f"    {count} x {told}: {1e3 * seconds:.2f} ms, {100 * seconds / whole:.0f} % of a step{share}", flush=True
        )
    rest = whole - known
    print(
        f"    all else (activations, sums, pooling, head): {1e3 * rest:.2f} ms, {100 * rest / whole:.0f} %", flush=True
    )


@contextmanager
def _inputs(module: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """The convolutions and batch norms of a module that is called inside the block, each with what it was given."""
    seen: list[tuple[nn.Module, Tensor]] = []
    parts = [part for part in module.modules() if isinstance(part, nn.Conv2d | _BatchNorm)]
    hooks = [part.register_forward_pre_hook(lambda layer, given: seen.append((layer, given[0]))) for part in parts]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _told(layer: nn.Module, like: Tensor) -> str:
    side = f"at {like.shape[2]} x {like.shape[3]}"
    if isinstance(layer, nn.Conv2d):
        size, stride = layer.kernel_size[0], layer.stride[0]
        every = "" if stride == 1 else f", every {stride}nd pixel"
        return f"convolution {size} x {size}, {layer.in_channels} to {layer.out_channels}{every}, {side}"
    return f"batch norm, {like.shape[1]} channels, {side}"


def _flops(layer: nn.Module, like: Tensor) -> float:
    if not isinstance(layer, nn.Conv2d):
        return 0.0
    with torch.no_grad():
        places = int(layer(like).numel())
    return 4.0 * places * layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1] / layer.groups


def _alone(layer: nn.Module, like: Tensor) -> float:
    """Seconds of a layer's output and of the gradient of what it was given."""
    x = like.detach().clone(memory_format=torch.channels_last).requires_grad_(True)
    upwards = torch.randn_like(layer(x))

    def step() -> None:
        torch.autograd.grad(layer(x), x, upwards)
        if x.device.type == "cuda":
            torch.cuda.synchronize()

    return _median(step)


def _filled(case: Case, n: int) -> tuple[Tensor, Tensor]:
    """``n`` images and labels of the case, repeated where there are fewer."""
    repeats = -(-n // len(case.x))
    return case.x.repeat(repeats, 1, 1, 1)[:n], case.labels.repeat(repeats)[:n]


def _median(step: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return median(times[1:])  # the first one compiles, or chooses kernels
