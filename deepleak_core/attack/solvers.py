"""Solvers: from an objective and a starting point to a sequence of iterates.

Each solver is a generator of `Iterate`, so its caller decides when to stop. Points are (R, B, C, H, W). To add a
solver, write a generator with the signature of `Minimise` and add one entry to `SOLVERS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from deepleak_core.attack.objectives import Matching

# The first forward-mode derivative of a process loads its rules, 0.2 s that would count as attack time. Some of these
# rules raise deprecation warnings about torch itself.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))

FIRST_MOVE = 0.1  # change of the input that moves most in the first L-BFGS step, in standard deviations of the data
LINE_SEARCH_STEPS = 29  # evaluations of an L-BFGS line search after the first
SURROGATE_RATE = 0.01  # Adam's step for the surrogate's point between the weights before and after


@dataclass(frozen=True)
class Iterate:
    """A point that a solver reached. `inputs` is its working memory: copy it to keep it.

    `loss` and `residuals` (R,) belong to exactly these inputs; `gradient` is the largest absolute entry of the loss
    gradient there; `progress` in [0, 1] counts iterations. `labels` are the believed labels, set by the attack.
    """

    step: int
    inputs: Tensor
    loss: float
    residuals: Tensor
    gradient: float
    progress: float
    labels: tuple[int, ...] = ()

    @property
    def residual(self) -> float:
        """The smallest residual of all restarts."""
        return float(self.residuals.min())


class Minimise(Protocol):
    """The signature of a solver. Iterates stay within [low, high] where the solver can hold them there.

    `learning_rate` is None for solvers that choose their own steps; once `stop` returns True a solver ends soon.
    """

    def __call__(
        self,
        objective: Matching,
        start: Tensor,
        *,
        low: Tensor,
        high: Tensor,
        iterations: int,
        learning_rate: float | None,
        stop: Callable[[], bool],
    ) -> Iterator[Iterate]:
        """Minimise the objective from a starting point (R, B, C, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Solver:
    """One entry of the registry; `takes_learning_rate` says whether the learning rate is a setting of it."""

    title: str
    source: str
    minimise: Minimise
    takes_learning_rate: bool = False


def adam(
    objective: Matching,
    start: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    iterations: int,
    learning_rate: float | None,
    stop: Callable[[], bool],
    signed: bool = False,
) -> Iterator[Iterate]:
    """Adam within the box [low, high] of valid pixels; its rate is divided by ten at 3/8, 5/8 and 7/8.

    `signed` replaces the gradient by its sign (Geiping et al. 2020), which makes the step the same size for every
    pixel, however flat the loss is there.
    """
    inputs = start.clone().requires_grad_()
    groups: list[dict[str, Any]] = [{"params": [inputs]}]
    if objective.parameters():
        groups.append({"params": objective.parameters(), "lr": SURROGATE_RATE})
    optimizer = torch.optim.Adam(groups, lr=0.1 if learning_rate is None else learning_rate)
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
    history: int = 100,
) -> Iterator[Iterate]:
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
            pairs = [*pairs[-(history - 1) :], (moved, turned, 1 / curvature)]
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


Residuals = Callable[[Tensor, Tensor], Tensor]


def levenberg_marquardt(
    residuals: Residuals, start: Tensor, *, low: Tensor, high: Tensor, iterations: int, inner: int = 100
) -> Iterator[Iterate]:
    """Levenberg-Marquardt for P independent least-squares problems at once; `start` is (P, ...).

    `residuals(x, active)` maps the points of the problems numbered `active` to their residuals (P_active, n).
    Each problem has its own damping, gain ratio and conjugate gradients, with Jacobian products by
    `torch.func`; problems that stopped moving are left out. The loss of an iterate is the sum of all
    squared residuals, its `residuals` are those of each problem. A step out of [low, high] is cut off.
    """
    points = start.clone()
    active = torch.arange(len(start), device=start.device)
    values = residuals(points, active)
    costs = values.square().flatten(1).sum(1)
    damping = torch.full_like(costs, 1e-3)
    stalled = torch.zeros_like(costs)
    for step in range(iterations + 1):
        progress = step / iterations if len(active) else 1.0
        yield Iterate(step, points, float(costs.sum()), costs, float(costs.max()), progress)
        if not len(active):
            return
        here = points[active]
        values, pull = torch.func.vjp(partial(_at, residuals, active), here)  # type: ignore[misc]
        move, expected = _damped_step(residuals, active, here, values, pull, damping[active], inner)
        there = torch.clamp(here + move, low, high)
        reached = residuals(there, active).square().flatten(1).sum(1)
        gain = costs[active] - reached
        better = (gain > 0) & torch.isfinite(reached)
        ratio = gain / expected.clamp_min(1e-30)
        factor = torch.where(ratio > 0.5, 0.1, torch.where(ratio > 0.1, 1.0, 4.0))
        damping[active] = (damping[active] * torch.where(better, factor, 10.0)).clamp(1e-14, 1e8)
        points = points.clone()
        points[active] = torch.where(_broadcast(better, here), there, here)
        small = ~better | (gain < 1e-3 * costs[active])
        stalled[active] = torch.where(small, stalled[active] + 1, torch.zeros_like(gain))
        costs = costs.clone()
        costs[active] = torch.where(better, reached, costs[active])
        active = active[(stalled[active] < 2) & (costs[active] > 1e-15)]


def _damped_step(
    residuals: Residuals,
    active: Tensor,
    here: Tensor,
    values: Tensor,
    pull: Callable[[Tensor], tuple[Tensor, ...]],
    damping: Tensor,
    inner: int,
) -> tuple[Tensor, Tensor]:
    """Conjugate gradients on (J^T J + damping) step = -J^T r, each problem by itself; and the gain it expects."""

    def push(direction: Tensor) -> Tensor:
        pushed: Tensor = torch.func.jvp(partial(_at, residuals, active), (here,), (direction,))[1]
        return pushed

    left = -pull(values)[0]
    slope = left
    step, direction = torch.zeros_like(here), left
    energy = first = _dot(left, left)
    curved = torch.zeros_like(values)  # J step
    for _ in range(inner):
        pushed = push(direction)
        bent = pull(pushed)[0] + _broadcast(damping, here) * direction
        length = energy / _dot(direction, bent).clamp_min(1e-38)
        step = step + _broadcast(length, here) * direction
        curved = curved + _broadcast(length, values) * pushed
        left = left - _broadcast(length, here) * bent
        previous, energy = energy, _dot(left, left)
        if bool((energy <= 1e-6 * first).all()):
            break
        direction = left + _broadcast(energy / previous.clamp_min(1e-38), here) * direction
    expected = 2 * _dot(step, slope) - _dot(curved, curved)
    return step, expected


def _at(residuals: Residuals, active: Tensor, x: Tensor) -> Tensor:
    return residuals(x, active)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _broadcast(scalars: Tensor, like: Tensor) -> Tensor:
    return scalars.view(-1, *[1] * (like.dim() - 1))


SOLVERS: dict[str, Solver] = {
    "adam": Solver(title="Adam", source="Kingma and Ba 2015", minimise=adam, takes_learning_rate=True),
    "signed-adam": Solver(
        title="Adam on the gradient's sign",
        source="Geiping et al. 2020, arXiv 2003.14053",
        minimise=partial(adam, signed=True),
        takes_learning_rate=True,
    ),
    "lbfgs": Solver(title="L-BFGS", source="Liu and Nocedal 1989", minimise=lbfgs),
}
