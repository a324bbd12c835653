"""Parts of states that authors of networks save, with random weights, and of what their forward passes compute."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp_min(0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


class Writer:
    """Random float64 weights under given names; statistics of norms are far from 0 and 1, so that errors show."""

    def __init__(self, seed: int) -> None:
        self.state: State = {}
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return 0.5 + torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def conv(self, name: str, inputs: int, outputs: int, size: int) -> None:
        self.state[f"{name}.weight"] = self.normal(outputs, inputs, size, size) * (2 / (inputs * size**2)) ** 0.5

    def norm(self, name: str, channels: int) -> None:
        self.state |= {f"{name}.weight": self.uniform(channels), f"{name}.bias": 0.3 * self.normal(channels)}
        self.state |= {
            f"{name}.running_mean": 0.3 * self.normal(channels),
            f"{name}.running_var": self.uniform(channels),
        }
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        self.state[f"{name}.weight"] = self.normal(outputs, inputs)
        if bias:
            self.state[f"{name}.bias"] = self.normal(outputs)

    def sparse(self, name: str, channels: int) -> None:
        self.state |= {
            f"{name}.running_mean": 0.3 * self.normal(channels),
            f"{name}.running_var": self.uniform(channels),
        }
        self.state[f"{name}.threshold"] = torch.tensor(0.3, dtype=torch.float64)
        self.state |= {f"{name}.flag_update_statistics": torch.tensor(0), f"{name}.batch_num": torch.tensor(391.0)}


def norm(s: State, name: str, x: Tensor) -> Tensor:
    weight, bias, mean, variance = (
        s[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def conv(s: State, name: str, x: Tensor, stride: int = 1, padding: str = "symmetric") -> Tensor:
    weight = s[f"{name}.weight"]
    if weight.shape[-1] == 3:  # a frame of zeros; asymmetric with a stride of 2: only at the right and below
        before = 0 if padding == "asymmetric" and stride == 2 else 1
        framed = x.new_zeros(*x.shape[:2], x.shape[2] + before + 1, x.shape[3] + before + 1)
        framed[:, :, before : before + x.shape[2], before : before + x.shape[3]] = x
        x = framed
    return F.conv2d(x, weight, stride=stride)


def linear(s: State, name: str, z: Tensor) -> Tensor:
    return z @ s[f"{name}.weight"].T + s.get(f"{name}.bias", torch.zeros(1, dtype=z.dtype))
