"""Truncated Newton: Newton's method whose linear systems are solved by preconditioned conjugate gradients, in part.

Nocedal and Wright 2006, algorithm 7.1. Far from the optimum a rough step is enough; close to it a step is solved the more
exactly the closer it is, so that convergence is superlinear.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robust_transfer.strategies.curvature import Inverse, by_class, factored, worthwhile
from robust_transfer.strategies.log_loss import LogLoss, Point

ROUGH = 0.01  # of the decrement, what a step may leave
RENEW = 40  # products of one step, at which inverses by class are made anew
STALLED = 0.9  # of the decrement before: close to the optimum, so little progress is rounding
TRIALS = 10  # lengths of one step


def minimise(problem: LogLoss, weight: Tensor, penalty: Tensor, tolerance: float, limit: int) -> tuple[Point, int]:
    """Least of ``log loss + sum(penalty * weight^2) / 2``, from ``weight`` on; and the number of steps taken.

    ``penalty`` float64 ``(r + 1,)``. It ends where the Newton decrement, about twice what the objective lies above its
    least value, is at most ``tolerance``; after ``limit`` steps; or where rounding lets no step lower the objective.
    """
    point, narrow = problem.at(weight), penalty.float()
    by_classes: Inverse | None = None  # once it is needed
    before = math.inf
    for step in range(limit):
        slope = point.gradient + penalty * point.weight
        inverse, most = by_classes or factored(problem, point.p, narrow), RENEW if by_classes else worthwhile(problem)
        direction, decrement, products = _direction(problem, point, slope, narrow, inverse, tolerance, most)
        stalled = STALLED * before < decrement <= 100 * tolerance
        if decrement <= tolerance or stalled:
            return point, step
        before = decrement
        moved = _moved(problem, point, slope, direction, penalty)
        if moved is None:
            return point, step
        point = moved
        if products >= most:
            by_classes = by_class(problem, point.p, narrow)
    return point, limit


def _direction(
    problem: LogLoss, point: Point, slope: Tensor, penalty: Tensor, inverse: Inverse, tolerance: float, most: int
) -> tuple[Tensor, float, int]:
    """Newton direction, the decrement as ``inverse`` sees it, and the products that it took, at most ``most``."""
    residual = -_centred(slope).float()
    preconditioned = _centred(inverse(residual))
    left = decrement = _dot(residual, preconditioned)
    enough = max(tolerance / 10, decrement * min(ROUGH, math.sqrt(max(decrement, 0.0))))
    found, along, products = torch.zeros_like(residual), preconditioned, 0
    while left > enough and products < most and decrement > tolerance:
        image = problem.product(point.p, along) + penalty * along
        products += 1
        curvature = _dot(along, image)
        if curvature <= 0:  # by rounding: the Hessian is positive semidefinite
            break
        found += left / curvature * along
        residual -= left / curvature * _centred(image)
        preconditioned = _centred(inverse(residual))
        before, left = left, _dot(residual, preconditioned)
        along = preconditioned + left / before * along
    return found.double(), decrement, products


def _moved(problem: LogLoss, point: Point, slope: Tensor, direction: Tensor, penalty: Tensor) -> Point | None:
    """First point along ``direction`` that is lower: the whole step if possible. None if rounding leaves none.

    A slope that still falls is as good a proof as a lower value (the objective is convex), and is less prone to rounding.
    """

    def value(at: Point) -> float:
        return at.loss + _dot(penalty, at.weight.square()) / 2

    start, fall, length = value(point), _dot(slope, direction), 1.0
    for _ in range(TRIALS if fall < 0 else 0):
        moved = problem.at(point.weight + length * direction)
        rise = _dot(moved.gradient + penalty * moved.weight, direction)
        if rise <= 0 or value(moved) <= start + 1e-4 * length * fall:
            return moved
        length *= max(0.1, fall / (fall - rise))  # where a parabola through both slopes is least
    return None


def _centred(by_class: Tensor) -> Tensor:
    """Without what is the same for all classes: it changes no probability, and rounding would send it anywhere."""
    return by_class - by_class.mean(0)


def _dot(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum())
