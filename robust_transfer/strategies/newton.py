"""Truncated Newton: Newton's method with linear systems solved approximately by preconditioned conjugate gradients.

Nocedal and Wright 2006, algorithm 7.1. Far from the optimum a rough step is enough; near it the steps are solved more
and more exactly, so that convergence is superlinear.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robust_transfer.strategies.curvature import Inverse, by_class, factored, worthwhile
from robust_transfer.strategies.log_loss import LogLoss, Point

ROUGH = 0.01  # of the decrement, what a step may leave
STALLED = 0.9  # of the decrement before: close to the optimum, so little progress is rounding
TRIALS = 10  # lengths of one step


def minimise(problem: LogLoss, weight: Tensor, penalty: Tensor, tolerance: float, limit: int) -> tuple[Point, int]:
    """Minimiser of ``log loss + sum(penalty * weight^2) / 2``, starting at ``weight``; and the number of steps taken.

    ``penalty`` float64 ``(r + 1,)``. Stops where the Newton decrement, about twice the excess over the minimum, is at
    most ``tolerance``; after ``limit`` steps; or where rounding lets no step lower the objective.
    """
    point, narrow, dear = problem.at(weight), penalty.float(), worthwhile(problem)
    by_classes: Inverse | None = None
    before, spent = math.inf, 0
    for step in range(limit):
        slope = _centred(point.gradient + penalty * point.weight)
        inverse = by_classes or factored(problem, point.p, narrow)
        decrement = _dot(slope, inverse(slope.float()))
        if decrement <= tolerance or STALLED * before < decrement <= 100 * tolerance:
            return point, step
        if spent >= dear:  # a better preconditioner, or a fresh one, costs no more than has been spent
            inverse = by_classes = by_class(problem, point.p, narrow)
            spent = 0
        left = max(tolerance / 10, decrement * min(ROUGH, math.sqrt(decrement)))
        direction, products = _direction(problem, point.p, slope, narrow, inverse, left, dear)
        moved = _moved(problem, point, slope, direction, penalty)
        if moved is None:
            return point, step
        point, before, spent = moved, decrement, spent + products
    return point, limit


def _direction(
    problem: LogLoss, p: Tensor, slope: Tensor, penalty: Tensor, inverse: Inverse, enough: float, most: int
) -> tuple[Tensor, int]:
    """Newton direction, solved until ``enough`` of the decrement is left, and the number of products used: up to ``most``."""
    residual = -slope.float()
    preconditioned = _centred(inverse(residual))
    left, along = _dot(residual, preconditioned), preconditioned
    found = torch.zeros_like(residual)
    for products in range(most):
        if left <= enough:
            return found.double(), products
        image = problem.product(p, along) + penalty * along
        curvature = _dot(along, image)
        if curvature <= 0:  # by rounding: the Hessian is positive semidefinite
            return found.double(), products
        found += left / curvature * along
        residual -= left / curvature * _centred(image)
        preconditioned = _centred(inverse(residual))
        before, left = left, _dot(residual, preconditioned)
        along = preconditioned + left / before * along
    return found.double(), most


def _moved(problem: LogLoss, point: Point, slope: Tensor, direction: Tensor, penalty: Tensor) -> Point | None:
    """First point along ``direction`` with a lower objective: the whole step if possible. None if rounding leaves none.

    A slope that still falls proves as much as a lower value (the objective is convex), and is less prone to rounding.
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
    """Subtract the mean over classes: it changes no probability, and rounding would let it drift."""
    return by_class - by_class.mean(0)


def _dot(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum())
