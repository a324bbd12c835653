"""Addressed randomness: noise as a function of (seed, purpose, example id, restart, step), not of a stream.

An example's noise does not depend on its batch, its neighbours or the device. The generator is the finaliser of
SplitMix64 (Steele, Lea, Flood 2014) applied to a counter, in wrapping 64-bit integer arithmetic, which every device has.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # torch shifts int64 arithmetically; the mask makes it logical


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


@dataclass(frozen=True)
class Address:
    """Address of a noise tensor, without the example's id."""

    seed: int
    purpose: str
    restart: int = 0
    step: int = 0

    def child(self, name: str) -> Address:
        """Address of a second, independent noise tensor for the same use."""
        return replace(self, purpose=f"{self.purpose}/{name}")

    def key(self) -> int:
        """A 64-bit key, the same in every process and Python version."""
        text = f"{self.seed}|{self.purpose}|{self.restart}|{self.step}".encode()
        return _signed(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))

    def generator(self) -> torch.Generator:
        """CPU generator with a stream of its own, for uses without example ids."""
        return torch.Generator().manual_seed(self.key() & (2**63 - 1))


def _bits(address: Address, ids: Tensor, count: int) -> Tensor:
    rows = _mix(_mix(ids.to(torch.int64) * _signed(_GOLDEN) + address.key()) ^ address.key())
    columns = torch.arange(1, count + 1, device=ids.device, dtype=torch.int64) * _signed(_GOLDEN)
    return _mix(rows[:, None] + columns)


def uniform(address: Address, ids: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), float32, shape ``(len(ids), *shape)``; ``ids`` are int64 example ids."""
    bits = _shift(_bits(address, ids, math.prod(shape)), 40)
    return (bits.to(torch.float32) / 2**24).view(len(ids), *shape)


def normal(address: Address, ids: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers (Box-Muller), float32, shape ``(len(ids), *shape)``."""
    first = uniform(address, ids, shape)
    second = uniform(address.child("angle"), ids, shape)
    return (-2 * torch.log1p(-first)).sqrt() * torch.cos(2 * math.pi * second)


def normal_with_tails(address: Address, ids: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers as far out as 8.2, where :func:`normal` ends at 5.8: for what is proved of the distribution.

    Their lengths have 48 bits in place of 24; all else is the same.
    """
    bits = _bits(address, ids, math.prod(shape))
    fine = (bits & (2**24 - 1)).to(torch.float32) + 0.5
    first = (_shift(bits, 40).to(torch.float32) + fine / 2**24) / 2**24  # never 0, and exact where it is small
    angle = 2 * math.pi * uniform(address.child("angle"), ids, shape)
    return (-2 * first.log()).clamp_min(0).sqrt().view(angle.shape) * torch.cos(angle)


def integers(address: Address, ids: Tensor, high: int, count: int = 1) -> Tensor:
    """Integers in [0, high), int64, shape ``(len(ids), count)``; ``high`` is at most 2^24, the resolution of uniform."""
    if not 0 < high <= 2**24:
        raise ValueError(f"high must be between 1 and 2^24, not {high}")
    return (uniform(address, ids, (count,)).double() * high).long().clamp_max(high - 1)


def permutation(address: Address, n: int) -> Tensor:
    """Permutation of ``range(n)`` on the CPU, int64."""
    return torch.randperm(n, generator=address.generator())
