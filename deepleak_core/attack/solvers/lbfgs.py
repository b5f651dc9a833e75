"""Limited-memory BFGS."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from deepleak_core.attack.graphs import GRAPHS, no_graph
from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.solvers.schedules import Schedule, steps
from deepleak_core.attack.solvers.solver import Iterate
from deepleak_core.events import Stage

FIRST_MOVE = 0.1  # change of the input that moves most in the first L-BFGS step, in standard deviations of the data
CURVATURE_PAIRS = 100  # that L-BFGS remembers
LINE_SEARCH_STEPS = 29  # evaluations of an L-BFGS line search after the first

Evaluation = tuple[float, Tensor, Tensor]  # loss, gradient, residuals (R,)


def lbfgs(
    objective: Matching,
    start: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    iterations: int,
    learning_rate: float | None,
    stop: Callable[[], bool],
    schedule: Schedule = steps,
) -> Iterator[Iterate | Stage]:
    """Limited-memory BFGS with a weak Wolfe line search by bisection (Lewis and Overton 2013).

    A step is taken only where it lowers the loss, so the sequence cannot diverge; it ends when no step does. Pixels are
    not clamped on the way, since bounds would break the curvature pairs. A line search may take many evaluations: once
    `stop` returns True it ends early, and the last point is yielded once more.

    PyTorch's own L-BFGS needs about twice as many evaluations of the objective (`benchmarks/lbfgs.py`), and scipy's
    would move every iterate to the host in double precision.
    """

    def evaluate(point: Tensor) -> Evaluation:
        point = point.detach().requires_grad_()
        value = objective(point)
        (gradient,) = torch.autograd.grad(value.loss, point)
        return float(value.loss.detach()), gradient, value.residuals

    if start.device.type in GRAPHS:
        yield no_graph("L-BFGS chooses its steps on the host")
    point = start
    loss, gradient, residuals = evaluate(point)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for step in range(iterations + 1):
        if objective.renew(point, step):
            loss, gradient, residuals = evaluate(point)
        yield Iterate(step, point, loss, residuals, float(gradient.abs().max()), step / iterations)
        direction = -_inverse_hessian_times(gradient, pairs)
        slope = float((direction * gradient).sum())
        if slope >= 0:
            pairs, direction = [], -gradient
            slope = -float(gradient.square().sum())
        # Without curvature the first try moves some input by FIRST_MOVE: a smaller one is lost in rounding errors.
        first = 1.0 if pairs else FIRST_MOVE / float(gradient.abs().max().clamp_min(1e-30))
        length, reached = _line_search(evaluate, point, direction, loss, slope, first, stop)
        if stop():
            continue
        if not reached[0] < loss:
            if not pairs:
                return
            pairs = []  # a kink made the curvature useless: restart from steepest descent
            continue
        moved, turned = length * direction, reached[1] - gradient
        curvature = (moved * turned).sum()
        if curvature > 1e-10 * moved.norm() * turned.norm():
            pairs = [*pairs[-(CURVATURE_PAIRS - 1) :], (moved, turned, 1 / curvature)]
        point = point + moved
        loss, gradient, residuals = reached


def _line_search(
    evaluate: Callable[[Tensor], Evaluation],
    point: Tensor,
    direction: Tensor,
    loss: float,
    slope: float,
    length: float,
    stop: Callable[[], bool],
) -> tuple[float, Evaluation]:
    """The length of a step that meets the weak Wolfe conditions, by bisection from `length`, and what was reached.

    `loss` and `slope` are those at the point, along the direction. Ends without such a step after
    `LINE_SEARCH_STEPS`, or once `stop` returns True.
    """
    below, above = 0.0, float("inf")
    reached = evaluate(point + length * direction)
    for _ in range(LINE_SEARCH_STEPS):
        if stop():
            break
        if not reached[0] <= loss + 1e-4 * length * slope:
            above = length
        elif float((reached[1] * direction).sum()) < 0.9 * slope:
            below = length
        else:
            break
        length = (below + above) / 2 if above < float("inf") else 2 * below
        reached = evaluate(point + length * direction)
    return length, reached


def _inverse_hessian_times(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The two-loop recursion (Nocedal 1980): approximate inverse Hessian times gradient."""
    q, weights = gradient.clone(), []
    for moved, turned, rho in reversed(pairs):
        weights.append(rho * (moved * q).sum())
        q -= weights[-1] * turned
    if pairs:
        moved, turned, _ = pairs[-1]
        q *= (moved * turned).sum() / turned.square().sum()
    for (moved, turned, rho), weight in zip(pairs, reversed(weights), strict=True):
        q += moved * (weight - rho * (turned * q).sum())
    return q
