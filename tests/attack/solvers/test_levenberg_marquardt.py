"""Levenberg-Marquardt over independent problems, against SciPy and against each problem alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from deepleak_core.attack.solvers import Iterate, levenberg_marquardt
from tests.helpers import Equations

LOW, HIGH = torch.tensor(-10.0), torch.tensor(10.0)


def problems(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth nonlinear systems tanh(A x) = b that have a solution; A (P, 12, 5), b (P, 12)."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, 12, 5, generator=generator, dtype=torch.float64) / 2
    solutions = torch.randn(count, 5, generator=generator, dtype=torch.float64) / 2
    return maps, torch.tanh(torch.einsum("pij,pj->pi", maps, solutions))


def residuals_of(maps: Tensor, targets: Tensor, asked: list[int] | None = None):
    def residuals(x: Tensor, active: Tensor) -> Tensor:
        if asked is not None:
            asked.append(len(active))
        return torch.tanh(torch.einsum("pij,pj->pi", maps[active], x)) - targets[active]

    return Equations(residuals)


def solve(maps: Tensor, targets: Tensor, iterations: int = 40) -> list[tuple[float, Tensor]]:
    start = torch.zeros(len(maps), 5, dtype=torch.float64)
    solver = levenberg_marquardt(residuals_of(maps, targets), start, low=LOW, high=HIGH, iterations=iterations)
    return [(iterate.loss, iterate.inputs.clone()) for iterate in solver]


def test_it_finds_what_scipy_finds() -> None:
    maps, targets = problems(3)
    found = solve(maps, targets)[-1][1]
    for i in range(3):
        matrix, target = maps[i].numpy(), targets[i].numpy()
        reference = least_squares(lambda x, a=matrix, b=target: np.tanh(a @ x) - b, np.zeros(5), xtol=1e-12)
        np.testing.assert_allclose(found[i].numpy(), reference.x, atol=1e-5)


def test_the_loss_never_rises() -> None:
    losses = [loss for loss, _ in solve(*problems(4, seed=3))]
    assert all(after <= before for before, after in pairwise(losses))
    assert losses[-1] < 1e-6 * losses[0]


def test_problems_are_independent() -> None:
    maps, targets = problems(4, seed=5)
    together = solve(maps, targets)[-1][1]
    for i in range(4):
        torch.testing.assert_close(solve(maps[i : i + 1], targets[i : i + 1])[-1][1][0], together[i], atol=1e-6, rtol=0)


def test_solved_problems_are_left_out() -> None:
    maps, targets = problems(3, seed=1)
    targets[0] = 0.0  # solved at the start
    asked: list[int] = []
    start = torch.zeros(3, 5, dtype=torch.float64)
    for _ in levenberg_marquardt(residuals_of(maps, targets, asked), start, low=LOW, high=HIGH, iterations=60):
        pass
    assert asked[0] == 3
    assert asked[-1] < 3


def test_steps_stay_within_the_bounds() -> None:
    maps, targets = problems(2, seed=2)
    start = torch.zeros(2, 5, dtype=torch.float64)
    low, high = torch.tensor(-0.1, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)
    for iterate in levenberg_marquardt(residuals_of(maps, targets), start, low=low, high=high, iterations=10):
        assert iterate.inputs.abs().max() <= 0.1


def run_lm(
    residuals: Callable[[Tensor, Tensor], Tensor], start: Tensor, low: float = -100, high: float = 100
) -> list[Iterate]:
    bounds = {"low": torch.tensor(low), "high": torch.tensor(high)}
    return list(levenberg_marquardt(Equations(residuals), start, iterations=100, **bounds))


def test_levenberg_marquardt_solves_linear_problems_side_by_side() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 8, 4, generator=generator, dtype=torch.float64)
    goals = torch.randn(3, 4, generator=generator, dtype=torch.float64)

    def residuals(x: Tensor, active: Tensor) -> Tensor:
        return torch.einsum("pnd,pd->pn", matrices[active], x - goals[active])

    iterates = run_lm(residuals, torch.zeros(3, 4, dtype=torch.float64))
    assert torch.allclose(iterates[-1].inputs, goals, atol=1e-6)
    alone = run_lm(lambda x, _: residuals(x, torch.tensor([1])), torch.zeros(1, 4, dtype=torch.float64))
    assert torch.allclose(alone[-1].inputs[0], goals[1], atol=1e-6)


def test_levenberg_marquardt_follows_a_curved_valley_and_never_climbs() -> None:
    def residuals(x: Tensor, active: Tensor) -> Tensor:
        return torch.stack([1 - x[:, 0], 10 * (x[:, 1] - x[:, 0].square())], 1)

    start = torch.tensor([[0.5, 0.5], [0.5, 2.0]], dtype=torch.float64)
    iterates = run_lm(residuals, start)
    assert torch.allclose(iterates[-1].inputs, torch.ones(2, 2, dtype=torch.float64), atol=1e-5)
    assert all((later.residuals <= earlier.residuals).all() for earlier, later in pairwise(iterates))
    assert iterates[-1].progress == 1.0


def test_levenberg_marquardt_stays_in_the_box() -> None:
    iterates = run_lm(lambda x, _: x - 10, torch.zeros(1, 2, dtype=torch.float64), low=-1, high=2)
    assert iterates[-1].inputs.tolist() == [[2.0, 2.0]]
