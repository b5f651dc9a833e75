"""Levenberg-Marquardt, dense and matrix-free, and conjugate gradients: against scipy and dense algebra."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from torch import Tensor

from deepleak_core.features.least_squares import (
    Linearised,
    conjugate_gradients,
    levenberg_marquardt,
    matrix_free_levenberg_marquardt,
)


def curves(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Residuals (T, 6) and Jacobians (T, 6, 3) of nonlinear systems tanh(A_l x) - b_l, for points (T, 3)."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 6, 3, generator=generator, dtype=torch.float64)[labels]
    wanted = torch.randn(5, 6, generator=generator, dtype=torch.float64)[labels] / 2
    reached = torch.tanh((maps @ points[:, :, None])[:, :, 0])
    return reached - wanted, (1 - reached.square())[:, :, None] * maps


def quadratics(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    residuals, jacobians = curves(points, labels)
    gradients = (jacobians.mT @ residuals[:, :, None])[:, :, 0]
    return residuals.square().sum(1), gradients, jacobians.mT @ jacobians


def linearise(point: Tensor, label: int = 0) -> Linearised:
    """One of the systems, as one block (1, 3) of unknowns."""
    cost, gradient, normal = quadratics(point, torch.tensor([label]))
    return Linearised(
        cost=float(cost),
        gradient=gradient,
        product=lambda step: step @ normal[0],
        blocks=normal,
        cost_at=lambda there: float(quadratics(there, torch.tensor([label]))[0]),
    )


def by_scipy(label: int) -> tuple[float, np.ndarray]:
    def residuals(x: np.ndarray) -> np.ndarray:
        return curves(torch.tensor(x)[None], torch.tensor([label]))[0][0].numpy()

    reference = least_squares(residuals, np.zeros(3), xtol=1e-12, ftol=1e-12)
    return 2 * reference.cost, reference.x


def test_the_dense_solver_finds_what_scipy_finds() -> None:
    labels = torch.arange(5)
    points = torch.zeros(5, 3, dtype=torch.float64)
    ends, costs = levenberg_marquardt(quadratics, points, labels, iterations=200)
    assert not points.any(), "the starts were written to"
    for i in range(5):
        cost, point = by_scipy(i)
        np.testing.assert_allclose(float(costs[i]), cost, rtol=1e-5)
        np.testing.assert_allclose(ends[i].numpy(), point, atol=1e-2)
        torch.testing.assert_close(costs[i], curves(ends[i : i + 1], labels[i : i + 1])[0].square().sum())


@pytest.mark.parametrize("label", range(5))
def test_the_matrix_free_solver_finds_what_scipy_finds(label: int) -> None:
    start = torch.zeros(1, 3, dtype=torch.float64)
    end = matrix_free_levenberg_marquardt(
        lambda point: linearise(point, label), start, iterations=200, conjugate=50, accuracy=1e-12, settled=1e-12
    )
    cost, point = by_scipy(label)
    np.testing.assert_allclose(linearise(end, label).cost, cost, rtol=1e-5)
    np.testing.assert_allclose(end[0].numpy(), point, atol=1e-2)


def test_problems_are_independent_of_each_other() -> None:
    labels = torch.arange(5)
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together, _ = levenberg_marquardt(quadratics, start, labels, iterations=50)
    for i in range(5):
        alone, _ = levenberg_marquardt(quadratics, start[i : i + 1], labels[i : i + 1], iterations=50)
        torch.testing.assert_close(alone[0], together[i])


def test_problems_that_reached_enough_are_not_evaluated_again() -> None:
    asked: list[int] = []

    def distances(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        asked.append(len(points))
        residuals = points - labels[:, None]
        return residuals.square().sum(1), residuals, torch.eye(2).double().expand(len(points), 2, 2)

    start = torch.tensor([[0.0, 0.0], [50.0, -50.0]], dtype=torch.float64)
    ends, costs = levenberg_marquardt(distances, start, torch.tensor([0, 1]), iterations=50, enough=1e-12)
    assert asked[0] == 2
    assert asked[-1] == 1
    assert len(asked) < 20
    torch.testing.assert_close(ends, torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double(), atol=1e-5, rtol=0)
    assert (costs <= 1e-12).all()


def test_more_iterations_never_cost() -> None:
    labels = torch.arange(5)
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    costs = [levenberg_marquardt(quadratics, start, labels, iterations=n)[1] for n in (1, 2, 4, 8, 16)]
    assert all((after <= before).all() for before, after in itertools.pairwise(costs))


def test_a_start_that_is_not_a_number_is_no_solution() -> None:
    points = torch.tensor([[float("nan")] * 3, [0.0] * 3], dtype=torch.float64)
    _, costs = levenberg_marquardt(quadratics, points, torch.tensor([0, 1]), iterations=20)
    assert costs[0] == torch.inf
    assert torch.isfinite(costs[1])


@pytest.mark.parametrize("matrix_free", [True, False])
def test_a_larger_settled_gain_ends_sooner(matrix_free: bool) -> None:
    def steps(settled: float) -> int:
        asked = itertools.count()
        start = torch.full((1, 3), 2.0, dtype=torch.float64)
        limits = {"iterations": 100, "settled": settled, "stop": lambda: next(asked) < 0}
        if matrix_free:
            matrix_free_levenberg_marquardt(linearise, start, conjugate=50, accuracy=1e-12, **limits)
        else:
            levenberg_marquardt(quadratics, start, torch.tensor([0]), **limits)
        return next(asked)

    assert steps(0.5) < steps(1e-7)


@pytest.mark.parametrize("matrix_free", [True, False])
def test_both_solvers_stop_when_asked(matrix_free: bool) -> None:
    asked = itertools.count()
    start = torch.full((1, 3), 2.0, dtype=torch.float64)

    def stop() -> bool:
        return next(asked) >= 2

    if matrix_free:
        matrix_free_levenberg_marquardt(linearise, start, iterations=100, conjugate=50, accuracy=1e-12, stop=stop)
    else:
        levenberg_marquardt(quadratics, start, torch.tensor([0]), iterations=100, stop=stop)
    assert next(asked) <= 5


def test_a_problem_without_a_way_down_stays_where_it_is() -> None:
    """Every step fails, whatever the damping."""
    here = linearise(torch.full((1, 3), 2.0, dtype=torch.float64))
    worse = Linearised(
        cost=here.cost,
        gradient=here.gradient,
        product=here.product,
        blocks=here.blocks,
        cost_at=lambda point: here.cost + float(point.square().sum()),
    )
    start = torch.full((1, 3), 2.0, dtype=torch.float64)
    end = matrix_free_levenberg_marquardt(lambda _: worse, start, iterations=5, conjugate=50, accuracy=1e-12)
    assert torch.equal(end, start)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_conjugate_gradients_solve_the_damped_normal_equations(images: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(4 * images**2, images**2, generator=generator, dtype=torch.float64)
    normal, gradient = jacobian.T @ jacobian, torch.randn(images, images, generator=generator, dtype=torch.float64)
    damping = torch.rand(images, images, generator=generator, dtype=torch.float64)
    every = torch.arange(images)
    blocks = normal.view(images, images, images, images)[every, :, every]
    asked = []

    def product(step: Tensor) -> Tensor:
        asked.append(step)
        return (normal @ step.flatten()).view_as(step)

    step = conjugate_gradients(product, gradient, blocks, damping, most=500, accuracy=1e-20)
    whole = torch.linalg.solve(normal + torch.diag(damping.flatten()), -gradient.flatten())
    torch.testing.assert_close(step.flatten(), whole, rtol=1e-6, atol=1e-9)
    asked.clear()
    conjugate_gradients(product, gradient, blocks, damping, most=3, accuracy=0.0)
    assert len(asked) == 3
