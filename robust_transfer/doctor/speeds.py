"""Speed of an attack step on this machine: in float32, in bfloat16, compiled."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from robust_transfer.engine import Engine
from robust_transfer.pass_sizes import full_chunk
from robust_transfer.run import Run
from robust_transfer.sources.packaged import BUNDLED, load_packaged
from robust_transfer.trials import TRIAL_IMAGES, seconds_of


@dataclass(frozen=True)
class Speed:
    """Time of an attack step of the bundled source: ms per image, minimum of three (on the CPU: CPU time over threads)."""

    name: str
    milliseconds: float


def speeds(run: Run, *, compiled: bool) -> list[Speed]:
    """Available ways to compute a step, float32 first. The first compilation takes one or two minutes."""
    device = run.torch_device()
    module = load_packaged(BUNDLED).classifier.to(device)
    size = module.spec.input_size
    engines = {"float32": Engine(torch.float32), "bfloat16": Engine(torch.bfloat16)}
    if compiled:
        engines[f"compiled, {str(run.dtype()).removeprefix('torch.')}"] = Engine(run.dtype(), compiled=True)
    found = []
    for name, engine in engines.items():
        n = full_chunk(device, size, engine.dtype) or TRIAL_IMAGES
        x = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        seconds = seconds_of(engine, module, x, torch.zeros(n, dtype=torch.long, device=device))
        if seconds:
            found.append(Speed(name, 1000 * seconds / n))
    return found
