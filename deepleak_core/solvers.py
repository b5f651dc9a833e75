"""Solvers: from an objective and a starting point to a sequence of iterates.

Each is a generator, so whoever iterates decides when it has seen enough. Points are (R, B, 3, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deepleak_core.objectives import Matching


@dataclass(frozen=True)
class Iterate:
    """A point a solver reached. `inputs` is its working memory: copy it to keep it.

    `loss` and `residuals` (R,) belong to exactly these inputs; `gradient` is the largest absolute entry of the
    loss gradient there; `progress` in [0, 1] counts iterations.
    """

    step: int
    inputs: Tensor
    loss: float
    residuals: Tensor
    gradient: float
    progress: float


Solver = Callable[..., Iterator[Iterate]]


def adam(
    objective: Matching,
    start: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    iterations: int,
    learning_rate: float,
    signed: bool,
) -> Iterator[Iterate]:
    """Adam within the box [low, high] that valid pixels leave, its rate cut tenfold at 3/8, 5/8 and 7/8.

    `signed` feeds it the sign of the gradient (Geiping et al. 2020), which makes the step the same size for
    every pixel however flat the loss is there.
    """
    inputs = start.clone().requires_grad_()
    groups: list[dict[str, Any]] = [{"params": [inputs]}]
    if objective.parameters():
        groups.append({"params": objective.parameters(), "lr": 0.01})
    optimizer = torch.optim.Adam(groups, lr=learning_rate)
    milestones = sorted({max(1, iterations * part // 8) for part in (3, 5, 7)})
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.1)
    unknowns = [inputs, *objective.parameters()]
    for step in range(iterations + 1):
        value = objective(inputs)
        gradient, *others = torch.autograd.grad(value.loss, unknowns)
        yield Iterate(
            step,
            inputs.detach(),
            float(value.loss.detach()),
            value.residuals,
            float(gradient.abs().max()),
            step / iterations,
        )
        inputs.grad = gradient.sign() if signed else gradient
        for parameter, grad in zip(unknowns[1:], others, strict=True):
            parameter.grad = grad
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            inputs.clamp_(low, high)


def lbfgs(
    objective: Matching, start: Tensor, *, low: Tensor, high: Tensor, iterations: int, history: int = 100
) -> Iterator[Iterate]:
    """Limited-memory BFGS with a weak Wolfe line search by bisection (Lewis and Overton 2013).

    A step is taken only where it lowers the loss, so the sequence cannot diverge; it ends by itself when no
    step does. Pixels are not held in their range on the way: bounds would break the curvature pairs.
    """

    def evaluate(point: Tensor) -> tuple[float, Tensor, Tensor]:
        point = point.detach().requires_grad_()
        value = objective(point)
        (gradient,) = torch.autograd.grad(value.loss, point)
        return float(value.loss.detach()), gradient, value.residuals

    point = start
    loss, gradient, residuals = evaluate(point)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for step in range(iterations + 1):
        yield Iterate(step, point, loss, residuals, float(gradient.abs().max()), step / iterations)
        direction = -_inverse_hessian_times(gradient, pairs)
        slope = float((direction * gradient).sum())
        if slope >= 0:
            pairs, direction = [], -gradient
            slope = -float(gradient.square().sum())
        length = 1.0 if pairs else min(1.0, 1.0 / float(gradient.abs().sum().clamp_min(1e-30)))
        below, above = 0.0, float("inf")
        for _ in range(30):
            reached = evaluate(point + length * direction)
            if not reached[0] <= loss + 1e-4 * length * slope:
                above = length
            elif float((reached[1] * direction).sum()) < 0.9 * slope:
                below = length
            else:
                break
            length = (below + above) / 2 if above < float("inf") else 2 * below
        if not reached[0] < loss:
            return
        moved, turned = length * direction, reached[1] - gradient
        curvature = (moved * turned).sum()
        if curvature > 1e-10 * moved.norm() * turned.norm():
            pairs = [*pairs[-(history - 1) :], (moved, turned, 1 / curvature)]
        point = point + moved
        loss, gradient, residuals = reached


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


SOLVERS: dict[str, Solver] = {"adam": adam, "lbfgs": lbfgs}
