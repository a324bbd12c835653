"""State of training before a step: kept on the device, so that a step can be taken back and taken again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Before:
    """Copies of all that a step changes: trained weights, buffers, the optimiser's moments, generators."""

    def __init__(self, objective: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.optimizer, self.device = optimizer, device
        self.objective = objective
        trained = [(name, p.detach()) for name, p in objective.named_parameters() if p.requires_grad]
        self._own = [*trained, *((name, values) for name, values in objective.named_buffers())]
        self.kept = dict[str, Tensor]()

    def keep(self) -> None:
        """Copy the present state over the last one."""
        now = dict(self.changing())
        for name in self.kept.keys() - now.keys():
            del self.kept[name]
        for name, values in now.items():
            if name in self.kept:
                self.kept[name].copy_(values)
            else:
                self.kept[name] = values.detach().clone()
        self.generators = generators(self.device)

    def restore(self) -> None:
        """Return to the state that was kept."""
        now = dict(self.changing())
        if now.keys() - self.kept.keys():  # the first step has created moments
            self.optimizer.state.clear()
        with torch.no_grad():
            for name, values in self.kept.items():
                now[name].copy_(values)
        set_generators(self.generators, self.device)

    def changing(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors that a step changes, by name."""
        yield from self._own
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for number, parameter in enumerate(trained):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    yield f"optimizer.{number}.{key}", value


def generators(device: torch.device) -> dict[str, Tensor]:
    """States of the random generators of the CPU and of ``device``."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def set_generators(states: dict[str, Tensor], device: torch.device) -> None:
    """Put :func:`generators` back."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
