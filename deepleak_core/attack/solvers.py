"""Solvers: from an objective and a starting point to a sequence of iterates.

Each solver is a generator of `Iterate`, so its caller decides when to stop. Points are (R, B, C, H, W). To add a
solver, write a generator with the signature of `Minimise` and add one entry to `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from deepleak_core.attack.objectives import Matching

FIRST_MOVE = 0.1  # change of the input that moves most in the first L-BFGS step, in standard deviations of the data
CURVATURE_PAIRS = 100  # that L-BFGS remembers
LINE_SEARCH_STEPS = 29  # evaluations of an L-BFGS line search after the first
CONJUGATE_STEPS = 300  # within a step of Levenberg-Marquardt, at most
FORCING, FORCING_STALLED = 1e-3, 1e-6  # share of the energy that they may leave; the latter where a step gained little
IDLE_STEPS = 2.0  # steps without gain after which a problem ends
REFUSED = 0.25  # of such a step: what a refused one counts, which is damped next
SNAP_COST = 1e-6  # squared relative residual from which the nearest possible point is tried
SNAPPED_COST = 1e-9  # up to which it solves a problem; a single pixel value that is off by 1/255 leaves about 1e-8
SURROGATE_RATE = 0.01  # Adam's step for the surrogate's point between the weights before and after


@dataclass(frozen=True)
class Iterate:
    """A point that a solver reached. `inputs` is its working memory: copy it to keep it.

    `loss` and `residuals` (R,) belong to exactly these inputs; `gradient` is the largest absolute entry of the loss
    gradient there; `progress` in [0, 1] counts iterations. `labels` are the believed labels, set by the attack. A
    `certified` iterate holds 8-bit images that reproduce the update to rounding.
    """

    step: int
    inputs: Tensor
    loss: float
    residuals: Tensor
    gradient: float
    progress: float
    labels: tuple[int, ...] = ()
    certified: bool = False

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


@dataclass(frozen=True)
class Linearisation:
    """P least-squares problems at one point: residuals (P, n), and products with the Jacobian J and its transpose.

    `push(step)` is J step (P, n) for a step shaped like the point, `pull(residuals)` is J^T residuals.
    """

    values: Tensor
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


class Equations(Protocol):
    """P independent least-squares problems; `active` (P',) are the numbers of those that are asked for."""

    def residuals(self, point: Tensor, active: Tensor) -> Tensor:
        """Residuals (P', n) at the points (P', ...) of these problems."""
        ...

    def linearised(self, point: Tensor, active: Tensor) -> Linearisation:
        """Residuals and Jacobian products there."""
        ...


def levenberg_marquardt(
    equations: Equations,
    start: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    iterations: int,
    snap: Callable[[Tensor], Tensor] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Iterate]:
    """Levenberg-Marquardt for P independent least-squares problems at once; `start` is (P, ...).

    Each problem has its own damping, gain ratio and conjugate gradients; those that stopped moving are left out. `snap`
    maps points to the nearest ones that are possible at all, such as 8-bit pixels: a problem that it solves is done.
    The loss of an iterate is the sum of all squared residuals, its `residuals` are those of each problem. A step out of
    [low, high] is cut off.
    """
    points = start.clone()
    active = torch.arange(len(start), device=start.device)
    costs = _squares(equations.residuals(points, active))
    damping = torch.full_like(costs, 1e-3)
    stalled = torch.zeros_like(costs)
    for step in range(iterations + 1):
        progress = step / iterations if len(active) else 1.0
        yield Iterate(step, points, float(costs.sum()), costs, float(costs.max()), progress)
        if not len(active):
            return
        here = points[active]
        forcing = FORCING_STALLED if bool(stalled[active].any()) else FORCING
        move, expected = _damped_step(equations.linearised(here, active), here, damping[active], forcing, stop)
        there = torch.clamp(here + move, low, high)
        reached = _squares(equations.residuals(there, active))
        gain = costs[active] - reached
        better = (gain > 0) & torch.isfinite(reached)
        ratio = gain / expected.clamp_min(1e-30)
        factor = torch.where(ratio > 0.5, 0.1, torch.where(ratio > 0.1, 1.0, 4.0))
        damping[active] = (damping[active] * torch.where(better, factor, 10.0)).clamp(1e-14, 1e8)
        points, costs = points.clone(), costs.clone()
        points[active] = torch.where(_broadcast(better, here), there, here)
        idle = torch.where(better, (gain < 1e-3 * costs[active]).to(gain), torch.full_like(gain, REFUSED))
        stalled[active] = torch.where(idle > 0, stalled[active] + idle, torch.zeros_like(gain))
        costs[active] = torch.where(better, reached, costs[active])
        near_end = (costs[active] < SNAP_COST) & (stalled[active] > 0)  # only rounding is left
        done = (stalled[active] >= IDLE_STEPS) | near_end | (costs[active] <= 1e-15)
        if snap is not None and bool((costs[active] < SNAP_COST).any()):
            near = snap(points[active])
            snapped = _squares(equations.residuals(near, active))
            solved = snapped < SNAPPED_COST
            points[active] = torch.where(_broadcast(solved, near), near, points[active])
            costs[active] = torch.where(solved, snapped, costs[active])
            done |= solved
        active = active[~done]


def _damped_step(
    here: Linearisation, point: Tensor, damping: Tensor, forcing: float, stop: Callable[[], bool]
) -> tuple[Tensor, Tensor]:
    """Conjugate gradients on (J^T J + damping) step = -J^T r, each problem by itself; and the gain it expects."""
    left = -here.pull(here.values)
    slope = left
    step, direction = torch.zeros_like(point), left
    energy = first = _dot(left, left)
    curved = torch.zeros_like(here.values)  # J step
    for _ in range(CONJUGATE_STEPS):
        pushed = here.push(direction)
        bent = here.pull(pushed) + _broadcast(damping, point) * direction
        length = energy / _dot(direction, bent).clamp_min(1e-38)
        step = step + _broadcast(length, point) * direction
        curved = curved + _broadcast(length, curved) * pushed
        left = left - _broadcast(length, point) * bent
        previous, energy = energy, _dot(left, left)
        if bool((energy <= forcing * first).all()) or stop():
            break
        direction = left + _broadcast(energy / previous.clamp_min(1e-38), point) * direction
    expected = 2 * _dot(step, slope) - _dot(curved, curved)
    return step, expected


def _squares(residuals: Tensor) -> Tensor:
    return residuals.square().flatten(1).sum(1)


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
