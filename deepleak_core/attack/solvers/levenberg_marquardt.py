"""Levenberg-Marquardt for many least-squares problems at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deepleak_core.attack.solvers.solver import Iterate

CONJUGATE_STEPS = 300  # within a step of Levenberg-Marquardt, at most
FORCING, FORCING_STALLED = 1e-3, 1e-6  # share of the energy that they may leave; the latter where a step gained little
IDLE_STEPS = 2.0  # steps without gain after which a problem ends
REFUSED = 0.25  # of such a step: what a refused one counts, which is damped next
SNAP_COST = 1e-6  # squared relative residual from which the nearest possible point is tried
SNAPPED_COST = 1e-9  # up to which it solves a problem; a single pixel value that is off by 1/255 leaves about 1e-8


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
