"""Processes of a training run: one, or those started by torchrun or ``accelerate launch``, through accelerate."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from robust_transfer.errors import ConfigError
from robust_transfer.launch import place

T = TypeVar("T")
PROCESS_TIMEOUT = timedelta(days=7)  # the others wait while the main process evaluates, or waits for another study


class Processes:
    """Processes that train together, and their communication.

    A process that trains alone does not use accelerate: its settings are global, may come from the environment, and
    would tie all later training to the first device.
    """

    def __init__(self, device: torch.device) -> None:
        self.world, self.rank, self.device = 1, 0, device
        if alone():
            return
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        try:
            self.accelerator = Accelerator(
                cpu=device.type == "cpu",
                mixed_precision="no",  # Run.autocast is what decides
                kwargs_handlers=[InitProcessGroupKwargs(timeout=PROCESS_TIMEOUT)],
            )
        except ValueError as error:
            raise ConfigError(f"cannot train on {device} with several processes: {error}") from None
        self.world, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.device = self.accelerator.device

    @property
    def main(self) -> bool:
        """True in the process that validates and writes."""
        return self.rank == 0

    def wrap(self, objective: nn.Module) -> nn.Module:
        """Objective with its gradients averaged over all processes."""
        if self.world == 1:
            return objective
        return cast(nn.Module, self.accelerator.prepare_model(objective, device_placement=False))

    def any(self, flags: list[bool]) -> list[bool]:
        """Each flag, True if raised in any process."""
        if self.world == 1:
            return flags
        raised = torch.tensor(flags, device=self.device, dtype=torch.float32)
        return [bool(value) for value in cast(Tensor, self.accelerator.reduce(raised, "sum")).tolist()]

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of a whole minibatch, of which each process has every ``world``-th, in order."""
        if self.world == 1:
            return rows
        shares = cast(Tensor, self.accelerator.gather(rows.contiguous()))
        return shares.view(self.world, -1, *rows.shape[1:]).transpose(0, 1).flatten(0, 1)

    def from_main(self, value: T) -> T:
        """Main process's ``value`` (anything that JSON can hold), in every process."""
        if self.world == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return cast(T, broadcast_object_list([value], from_process=0)[0])


def alone() -> bool:
    """True if this process trains alone."""
    return place().world == 1
