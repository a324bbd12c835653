"""Square attack (Andriushchenko et al. 2020): random search with squares, from scores alone, without gradients."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from robust_transfer.attacks.base import ATTACKS, SURVIVAL_SHARE, Attack, BestSoFar
from robust_transfer.attacks.victim import Victim
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.randomness import Address, integers, uniform
from robust_transfer.threat import Threat

HALVINGS = (0.001, 0.005, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8)  # of all queries (section 3.2): there the squares' area halves
TILES = 5  # along a side of the image, in the l2 search's first guess (section 3.4)


@ATTACKS.register("square", summary="random search with squares, without gradients", paper="Andriushchenko et al. 2020")
@config
class Square(Attack):
    """``queries`` scores an example: a square of changed pixels is kept where it raises the margin.

    ``area`` is the share of the image that the first squares cover; it halves eight times on the way.
    """

    queries: int = 5000
    restarts: int = 1
    area: float = 0.8

    count: ClassVar[str | None] = "queries"
    gradient_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 1 or self.restarts < 1:
            raise ConfigError("square needs at least 1 query and 1 restart")
        if not 0 < self.area <= 1:
            raise ConfigError(f"square's area is a share of the image, above 0 and at most 1, not {self.area}")

    @property
    def passes(self) -> float:
        """Image passes: one per query, for the examples that survive."""
        return 3.0 + SURVIVAL_SHARE * (2.0 * self.most_steps + self.queries)

    def run(self, target: Victim, x: Tensor, labels: Tensor, ids: Tensor, threat: Threat, seed: int) -> Tensor:
        """Return, per example, a breaking image or else the one with the largest margin."""
        worst, rows = BestSoFar(x), torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            best = torch.full((len(rows),), -torch.inf, device=x.device)
            at = x[rows]
            for query in range(self.queries):
                address, clean = Address(seed, "square", restart, query), x[rows]
                guess = self._guess(at, clean, ids[rows], threat, address)
                broken, score = target.judge(guess, labels[rows], target.guess(guess))
                worst.update(rows, guess, broken, score)
                better = score > best
                at, best = torch.where(better.view(-1, 1, 1, 1), guess, at), torch.where(better, score, best)
                if broken.any():
                    rows, at, best = rows[~broken], at[~broken], best[~broken]
                    if not len(rows):
                        return worst.images
        return worst.images

    def _guess(self, at: Tensor, clean: Tensor, ids: Tensor, threat: Threat, address: Address) -> Tensor:
        """Next candidates, in ball and box."""
        first, propose = (_stripes, _square) if threat.norm == "linf" else (_tiles, _moved_mass)
        if address.step == 0:
            return threat.project(clean + first(clean, ids, threat.eps, address), clean)
        halvings = sum(address.step / self.queries > share for share in HALVINGS)
        height, width = clean.shape[-2:]
        side = round(math.sqrt(self.area / 2**halvings * height * width))
        return threat.project(clean + propose(at - clean, ids, threat.eps, side, address), clean)


def _signs(address: Address, ids: Tensor, *shape: int) -> Tensor:
    return torch.where(uniform(address, ids, shape) < 0.5, -1.0, 1.0)


# ---------------------------------------------------------------- linf (section 3.3)


def _stripes(clean: Tensor, ids: Tensor, eps: float, address: Address) -> Tensor:
    """Vertical stripes one pixel wide, plus or minus eps in each channel."""
    channels, width = clean.shape[1], clean.shape[3]
    return eps * _signs(address.child("stripes"), ids, channels, 1, width).expand_as(clean)


def _square(delta: Tensor, ids: Tensor, eps: float, side: int, address: Address) -> Tensor:
    """``delta`` with one square at a random position set to plus or minus eps in each channel."""
    channels, height, width = delta.shape[1:]
    side = min(max(side, 1), height, width)
    inside = _window(_corner(address, "corner", ids, height, width, side), side, height, width)
    return torch.where(inside, eps * _signs(address.child("signs"), ids, channels, 1, 1), delta)


# ---------------------------------------------------------------- l2 (section 3.4)


def _tiles(clean: Tensor, ids: Tensor, eps: float, address: Address) -> Tensor:
    """Grid of :func:`_pyramid` with a random sign each, of length eps in all."""
    channels, height, width = clean.shape[1:]
    side = max(min(height, width) // TILES, 1)
    across = min(height, width) // side
    signs = _signs(address.child("tiles"), ids, channels, across, across)
    signs = signs.repeat_interleave(side, 2).repeat_interleave(side, 3)
    delta = torch.zeros_like(clean)
    delta[..., : across * side, : across * side] = signs * _pyramid(side, side, clean.device).repeat(across, across)
    return delta * (eps / _lengths(delta, (1, 2, 3)).clamp_min(1e-12))


def _moved_mass(delta: Tensor, ids: Tensor, eps: float, side: int, address: Address) -> Tensor:
    """``delta`` with the mass of one window, and the unused budget, moved to another window."""
    channels, height, width = delta.shape[1:]
    side = min(max(side + 1 - side % 2, 3), height, width)
    receive = _corner(address, "receives", ids, height, width, side)
    give = _corner(address, "gives", ids, height, width, side)
    gains, loses = (_window(corner, side, height, width) for corner in (receive, give))
    unused = (eps**2 - _lengths(delta, (1, 2, 3)).square()).clamp_min(0)
    available = (_lengths(delta * (gains | loses), (2, 3)).square() + unused / channels).sqrt()
    old = delta * gains
    old = old / _lengths(old, (2, 3)).clamp_min(1e-12)
    pattern = _two_pyramids(side, delta.device)
    turned = uniform(address.child("turned"), ids, (1, 1, 1)) < 0.5
    placed = torch.where(turned, _placed(pattern.T, receive, delta), _placed(pattern, receive, delta))
    new = _signs(address.child("signs"), ids, channels, 1, 1) * placed + old
    new = new / _lengths(new, (2, 3)).clamp_min(1e-12) * available
    return torch.where(gains, new, torch.where(loses, 0.0, delta))


def _pyramid(rows: int, columns: int, device: torch.device) -> Tensor:
    """Paper's eta of equation 1, ``(rows, columns)``: rings that rise towards the middle."""
    n = rows // 2
    down = (torch.arange(rows, device=device) - rows // 2).abs()[:, None]
    along = (torch.arange(columns, device=device) - columns // 2).abs()[None]
    heights = torch.tensor([0.0, *(1 / (n + 1 - k) ** 2 for k in range(n + 1))], device=device).cumsum(0)
    return heights[(n + 1 - torch.maximum(down, along)).clamp_min(0)]


def _two_pyramids(side: int, device: torch.device) -> Tensor:
    """One pyramid up beside one down, ``(side, side)``, of length 1 (equation 2)."""
    half = side // 2
    pattern = torch.cat([_pyramid(side, half, device), -_pyramid(side, side - half, device)], 1)
    return pattern / _lengths(pattern, (0, 1))


def _placed(pattern: Tensor, corner: Tensor, like: Tensor) -> Tensor:
    """``pattern`` at each example's corner, ``(B, 1, H, W)``, and 0 elsewhere."""
    height, width = like.shape[2:]
    side = len(pattern)
    row = torch.arange(height, device=like.device) - corner[:, :1]
    column = torch.arange(width, device=like.device) - corner[:, 1:]
    values = pattern[row.clamp(0, side - 1)[:, :, None], column.clamp(0, side - 1)[:, None, :]]
    return (values * _window(corner, side, height, width)[:, 0])[:, None]


def _lengths(delta: Tensor, over: tuple[int, ...]) -> Tensor:
    """Euclidean lengths over some dimensions, which stay; in float64, whose sums have the same bits in any batch."""
    length: Tensor = torch.linalg.vector_norm(delta, dim=over, keepdim=True, dtype=torch.float64)
    return length.to(delta.dtype)


# ---------------------------------------------------------------- windows


def _corner(address: Address, name: str, ids: Tensor, height: int, width: int, side: int) -> Tensor:
    """Upper left corners ``(B, 2)`` of windows that lie in the image."""
    down = integers(address.child(f"{name}/row"), ids, height - side + 1)
    return torch.cat([down, integers(address.child(f"{name}/column"), ids, width - side + 1)], 1)


def _window(corner: Tensor, side: int, height: int, width: int) -> Tensor:
    """Mask ``(B, 1, H, W)`` of the pixels in each example's window."""
    row = torch.arange(height, device=corner.device) - corner[:, :1]
    column = torch.arange(width, device=corner.device) - corner[:, 1:]
    inside = ((row >= 0) & (row < side))[:, :, None] & ((column >= 0) & (column < side))[:, None, :]
    return inside[:, None]
