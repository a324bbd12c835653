"""Truncated Newton: Newton's method whose linear systems are solved by preconditioned conjugate gradients, in part.

Nocedal and Wright 2006, algorithm 7.1. Far from the optimum a rough step is enough; close to it a step is solved the more
exactly the closer it is, so that convergence is superlinear.
"""

from __future__ import annotations

import math

from torch import Tensor

from robust_transfer.strategies.curvature import Inverse, by_class, factored, fits
from robust_transfer.strategies.log_loss import LogLoss, Point

ROUGH = 0.01  # of the decrement, what a step may leave
MANY = 64  # products of one step: from there on the dearer preconditioner pays
PRODUCTS = 500  # of one step, at most
TRIALS = 30  # lengths of one step


def minimise(problem: LogLoss, weight: Tensor, penalty: Tensor, tolerance: float, limit: int) -> tuple[Point, int]:
    """Least of ``log loss + sum(penalty * weight^2) / 2``, from ``weight`` on; and the number of steps taken.

    ``penalty`` float64 ``(r + 1,)``. It ends where the Newton decrement, about twice what the objective lies above its
    least value, is at most ``tolerance``; after ``limit`` steps; or where rounding lets no step lower the objective.
    """
    point, precondition, products = problem.at(weight), factored, 0
    for step in range(limit):
        slope = point.gradient + penalty * point.weight
        if products > MANY and fits(problem):
            precondition = by_class
        inverse = precondition(problem, point.p, penalty)
        direction, decrement, products = _direction(problem, point, slope, penalty, inverse, tolerance)
        if decrement <= tolerance:
            return point, step
        moved = _moved(problem, point, slope, direction, penalty)
        if moved is None:
            return point, step
        point = moved
    return point, limit


def _direction(
    problem: LogLoss, point: Point, slope: Tensor, penalty: Tensor, inverse: Inverse, tolerance: float
) -> tuple[Tensor, float, int]:
    """Newton direction, the decrement as the preconditioner sees it, and the products that it took."""
    residual = -slope.to(problem.x.dtype)
    penalty = penalty.to(residual.dtype)
    preconditioned = inverse(residual)
    size = decrement = float((residual * preconditioned).sum())
    enough = max(tolerance / 10, decrement * min(ROUGH, math.sqrt(max(decrement, 0.0))))
    found, along, products = 0 * residual, preconditioned, 0
    while size > enough and products < PRODUCTS and decrement > tolerance:
        image = problem.product(point.p, along) + penalty * along
        products += 1
        curvature = float((along * image).sum())
        if curvature <= 0:  # rounding: the Hessian is positive semidefinite
            break
        found += size / curvature * along
        residual -= size / curvature * image
        preconditioned = inverse(residual)
        before, size = size, float((residual * preconditioned).sum())
        along = preconditioned + size / before * along
    return found.double(), decrement, products


def _moved(problem: LogLoss, point: Point, slope: Tensor, direction: Tensor, penalty: Tensor) -> Point | None:
    """First point along ``direction`` that is lower: the whole step if possible. None if rounding leaves none.

    A slope that still falls is as good a proof as a lower value (the objective is convex), and is less prone to rounding.
    """

    def value(at: Point) -> float:
        return at.loss + float((penalty * at.weight.square()).sum()) / 2

    start, fall, length = value(point), float((slope * direction).sum()), 1.0
    for _ in range(TRIALS if fall < 0 else 0):
        moved = problem.at(point.weight + length * direction)
        rise = float(((moved.gradient + penalty * moved.weight) * direction).sum())
        if rise <= 0 or value(moved) <= start + 1e-4 * length * fall:
            return moved
        length *= max(0.1, fall / (fall - rise))  # where a parabola through both slopes is least
    return None
