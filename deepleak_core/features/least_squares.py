"""Levenberg-Marquardt for small nonlinear least-squares problems, dense in batches and matrix-free.

Both minimise |r(x)|^2 by steps d that solve the damped normal equations

    (J^T J + l diag(J^T J)) d = -J^T r,

and adapt the damping l to how much of the predicted reduction comes true (Nielsen 1999). `levenberg_marquardt` factors
the normal matrices of many independent problems side by side. `matrix_free_levenberg_marquardt` solves one problem
whose normal matrix is too large, by conjugate gradients preconditioned by its diagonal blocks. Float64 throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Points (T, n) and labels to squared residuals (T,), J^T r (T, n) and J^T J (T, n, n).
Quadratics = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

FIRST_DAMPING = 1e-2
DAMPING_RANGE = (1e-15, 1e12)
SLOWEST_DECREASE = 1 / 5  # the damping shrinks at most by this factor in a step
LEAST_DIAGONAL = 1e-12  # of the largest entry of diag(J^T J): smaller ones are damped as if they were as large
SMALL_GAIN = 1e-3  # relative reduction of the squared residual below which a step counts as stalled
STALLS = 12  # stalled steps in a row after which a problem is given up


def never() -> bool:
    """The default of every `stop` parameter: the search goes on."""
    return False


def levenberg_marquardt(
    problems: Quadratics,
    points: Tensor,
    labels: Tensor,
    *,
    iterations: int,
    enough: float = 0.0,
    settled: float = 0.0,
    stop: Callable[[], bool] = never,
) -> tuple[Tensor, Tensor]:
    """Minimise T independent problems side by side; returns points (T, n) and squared residuals (T,).

    `problems` gets the `labels` of the problems that are still active. A problem ends when its squared residual is at
    most `enough`, after `STALLS` stalled steps, or when an accepted step reduces it by a share below `settled`.
    """
    points = points.clone()
    costs = torch.full_like(points[:, 0], torch.inf)
    damping, growth = torch.full_like(costs, FIRST_DAMPING), torch.full_like(costs, 2.0)
    stalls = torch.zeros_like(costs, dtype=torch.long)
    active = torch.arange(len(points), device=points.device)
    here = points.clone()
    cost, gradient, normal = problems(here, labels)
    cost = cost.nan_to_num(torch.inf)
    for _ in range(iterations):
        if stop():
            break
        diagonal = normal.diagonal(dim1=1, dim2=2)
        damped = damping[active, None] * diagonal.clamp_min(LEAST_DIAGONAL * diagonal.amax(1, keepdim=True))
        factor, failed = torch.linalg.cholesky_ex(normal + torch.diag_embed(damped))
        step = -torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
        del factor
        there = here + step
        new_cost, new_gradient, new_normal = problems(there, labels[active])
        new_cost = new_cost.nan_to_num(torch.inf)
        better = (new_cost < cost) & (failed == 0)
        predicted = (step * (damped * step - gradient)).sum(1)
        damping[active], growth[active] = _adapted(damping[active], growth[active], cost - new_cost, predicted, better)
        gain = torch.where(better, 1 - new_cost / cost, 0.0)
        stalls[active] = torch.where(gain > SMALL_GAIN, 0, stalls[active] + 1)
        if better.all():
            here, gradient, normal, cost = there, new_gradient, new_normal, new_cost
        elif better.any():
            here = torch.where(better[:, None], there, here)
            gradient = torch.where(better[:, None], new_gradient, gradient)
            normal = torch.where(better[:, None, None], new_normal, normal)
            cost = torch.where(better, new_cost, cost)
        points[active], costs[active] = here, cost
        going = (stalls[active] < STALLS) & (cost > enough) & ~(better & (gain < settled))
        if not going.all():
            active, here, cost = active[going], here[going], cost[going]
            gradient, normal = gradient[going], normal[going]
            if not len(active):
                break
    return points, costs


def _adapted(
    damping: Tensor, growth: Tensor, reduction: Tensor, predicted: Tensor, better: Tensor
) -> tuple[Tensor, Tensor]:
    """Damping (T,) and its growth factor (T,) for the next step, by Nielsen's rule."""
    share = (reduction / predicted.clamp_min(1e-300)).clamp(0, 1)
    decrease = (1 - (2 * share - 1) ** 3).clamp_min(SLOWEST_DECREASE)
    changed = torch.where(better, damping * decrease, damping * growth).clamp(*DAMPING_RANGE)
    return changed, torch.where(better, 2.0, 2 * growth)


@dataclass(frozen=True, kw_only=True)
class Linearised:
    """A least-squares problem of K blocks of n unknowns, linearised at a point (K, n).

    `gradient` is J^T r (K, n), `product` multiplies J^T J with a step (K, n), and `blocks` (K, n, n) are the diagonal
    blocks of J^T J. `cost_at` gives the squared residual at another point under the same weights.
    """

    cost: float
    gradient: Tensor
    product: Callable[[Tensor], Tensor]
    blocks: Tensor
    cost_at: Callable[[Tensor], float]


def matrix_free_levenberg_marquardt(
    linearise: Callable[[Tensor], Linearised],
    point: Tensor,
    *,
    iterations: int,
    conjugate: int,
    accuracy: float,
    enough: float = 0.0,
    settled: float = 0.0,
    stop: Callable[[], bool] = never,
) -> Tensor:
    """Minimise one problem from a point (K, n) without its normal matrix; returns the point reached.

    Each step takes at most `conjugate` conjugate gradients, fewer where a share `accuracy` of the energy is left. Ends
    at a squared residual of `enough`, or when a step reduces it by a share below `settled`.
    """
    damping, growth = torch.tensor([FIRST_DAMPING]).double(), torch.tensor([2.0]).double()
    for _ in range(iterations):
        here = linearise(point)
        if stop() or here.cost <= enough:
            break
        diagonal = here.blocks.diagonal(dim1=1, dim2=2)
        diagonal = diagonal.clamp_min(LEAST_DIAGONAL * float(diagonal.max()))
        moved = False
        while not moved and float(damping) < DAMPING_RANGE[1] and not stop():
            step = conjugate_gradients(
                here.product, here.gradient, here.blocks, float(damping) * diagonal, most=conjugate, accuracy=accuracy
            )
            cost = here.cost_at(point + step)
            moved = cost < here.cost
            predicted = -(step * (2 * here.gradient + here.product(step))).sum()
            reduction = torch.tensor([here.cost - cost]).double()
            damping, growth = _adapted(damping, growth, reduction, predicted.cpu()[None], torch.tensor([moved]))
        if not moved:
            break
        point = point + step
        if here.cost - cost < settled * here.cost:
            break
    return point


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    gradient: Tensor,
    blocks: Tensor,
    damping: Tensor,
    *,
    most: int,
    accuracy: float,
) -> Tensor:
    """The damped Gauss-Newton step (K, n) by preconditioned conjugate gradients.

    `product` multiplies J^T J with a step, `blocks` (K, n, n) are its diagonal blocks, the preconditioner, and
    `damping` (K, n) is added to its diagonal. Ends where a share `accuracy` of the energy is left, or after `most`.
    """
    factors = torch.linalg.cholesky_ex(blocks + torch.diag_embed(damping))[0]

    def precondition(x: Tensor) -> Tensor:
        return torch.cholesky_solve(x[..., None], factors)[..., 0]

    step, residual = torch.zeros_like(gradient), -gradient
    direction = preconditioned = precondition(residual)
    energy = first = (residual * preconditioned).sum()
    for _ in range(most):
        pushed = product(direction) + damping * direction
        length = energy / (direction * pushed).sum()
        step, residual = step + length * direction, residual - length * pushed
        preconditioned = precondition(residual)
        previous, energy = energy, (residual * preconditioned).sum()
        if energy < accuracy * first:
            break
        direction = preconditioned + (energy / previous) * direction
    return step
