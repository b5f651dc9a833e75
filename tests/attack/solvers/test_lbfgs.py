"""L-BFGS on small problems whose solution is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from deepleak_core.attack.solvers import Iterate, lbfgs
from tests.attack.solvers.problem import HIGH, LOW, Problem, never


def run_lbfgs(function: Callable[[Tensor], Tensor], start: list[float], iterations: int) -> list[Iterate]:
    point = torch.tensor([start], dtype=torch.float64)
    return list(minimised(Problem(function), point, iterations))


def minimised(problem: Problem, point: Tensor, iterations: int, stop: Callable[[], bool] = never) -> Iterator[Iterate]:
    """Iterates of L-BFGS."""
    return lbfgs(
        problem,  # type: ignore[arg-type]
        point,
        low=LOW,
        high=HIGH,
        iterations=iterations,
        learning_rate=None,
        stop=stop,
    )


def rosenbrock(x: Tensor) -> Tensor:
    return (1 - x[:-1]).square().sum() + 100 * (x[1:] - x[:-1].square()).square().sum()


def test_lbfgs_solves_a_badly_scaled_quadratic() -> None:
    scales = torch.logspace(0, 3, 20, dtype=torch.float64)
    goal = torch.linspace(-1, 1, 20, dtype=torch.float64)
    iterates = run_lbfgs(lambda x: (scales * (x - goal).square()).sum(), [0.0] * 20, 80)
    assert torch.allclose(iterates[-1].inputs[0], goal, atol=1e-5)
    assert iterates[-1].gradient < 1e-4


@pytest.mark.parametrize("start", [[-1.2, 1.0], [-1.2, 1.0, -1.2, 1.0, 0.0]])
def test_lbfgs_follows_a_curved_valley(start: list[float]) -> None:
    iterates = run_lbfgs(rosenbrock, start, 200)
    assert torch.allclose(iterates[-1].inputs[0], torch.ones(len(start), dtype=torch.float64), atol=1e-4)


@pytest.mark.parametrize(
    "function",
    [
        rosenbrock,
        lambda x: x.abs().sum() + 10 * x.prod().abs(),  # kinks everywhere that matters
        lambda x: (x.square().sum() + 1e-3).sqrt().log() - torch.cos(20 * x).sum(),  # many hollows
    ],
)
def test_lbfgs_never_raises_the_loss(function: Callable[[Tensor], Tensor]) -> None:
    iterates = run_lbfgs(function, [0.7, -1.3, 0.31], 60)
    assert all(later.loss <= earlier.loss for earlier, later in pairwise(iterates))
    assert iterates[-1].loss < iterates[0].loss


def test_lbfgs_ends_where_nothing_can_be_gained() -> None:
    iterates = run_lbfgs(lambda x: x.square().sum(), [3.0, 4.0], 500)
    assert len(iterates) < 100
    assert iterates[-1].loss < 1e-12
    assert len(run_lbfgs(lambda x: 0 * x.sum(), [1.0], 500)) == 1


def test_lbfgs_gets_going_where_the_loss_is_nearly_flat() -> None:
    """In float32 a first step of 1 / |gradient| may change the loss by less than its last digit."""
    start = torch.full((1, 1000), 0.5)
    iterates = list(minimised(Problem(lambda x: 1 + 1e-6 * x.square().mean()), start, 9))
    assert len(iterates) > 1
    assert iterates[-1].loss < iterates[0].loss


def test_lbfgs_lets_itself_be_stopped_within_a_line_search() -> None:
    """A line search that would take many evaluations ends after the one during which stop was asked for."""
    evaluations = 0

    def steep(x: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return (1 + 1e9 * (x - 1)).square().sum()  # the bottom is a billionth away

    point = torch.tensor([[1.0]], dtype=torch.float64)
    iterates = minimised(Problem(steep), point, 50, stop=lambda: evaluations >= 3)
    first, second = next(iterates), next(iterates)
    assert evaluations == 3
    assert torch.equal(first.inputs, second.inputs)
    assert first.loss == second.loss


def test_an_iterates_numbers_belong_to_its_inputs() -> None:
    for iterate in run_lbfgs(rosenbrock, [-1.2, 1.0], 30):
        point = iterate.inputs[0].detach().requires_grad_()
        loss = rosenbrock(point)
        (gradient,) = torch.autograd.grad(loss, point)
        assert iterate.loss == pytest.approx(float(loss.detach()))
        assert float(iterate.residuals) == pytest.approx(float(loss.detach()))
        assert iterate.gradient == pytest.approx(float(gradient.abs().max()))
