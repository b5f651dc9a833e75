"""The solvers on small problems whose solution is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from deepleak_core.attack.objectives import Matching, Value
from deepleak_core.attack.solvers import SOLVERS, Iterate, adam, lbfgs, levenberg_marquardt
from deepleak_core.federated.client import LocalTraining
from deepleak_core.federated.models import build
from tests.helpers import Equations, case_of, random_images

LOW, HIGH = torch.tensor(-100.0), torch.tensor(100.0)


def never() -> bool:
    return False


class Problem:
    """Any scalar function in the shape of an attack's objective; points are (1, n)."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function

    def __call__(self, point: Tensor) -> Value:
        loss = self.function(point[0])
        return Value(loss, loss.detach()[None])

    def parameters(self) -> list[Tensor]:
        return []


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


# ---------------------------------------------------------------------------------------------------- L-BFGS


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


# ------------------------------------------------------------------------------------------------------ Adam


def run_adam(
    function: Callable[[Tensor], Tensor], start: list[float], *, low: float = -100, high: float = 100, signed: bool
) -> list[tuple[Iterate, Tensor]]:
    iterates = adam(
        Problem(function),  # type: ignore[arg-type]
        torch.tensor([start]),
        low=torch.tensor(low),
        high=torch.tensor(high),
        iterations=200,
        learning_rate=0.1,
        stop=never,
        signed=signed,
    )
    return [(iterate, iterate.inputs[0].clone()) for iterate in iterates]


@pytest.mark.parametrize("signed", [True, False])
def test_adam_finds_the_bottom(signed: bool) -> None:
    iterates = run_adam(lambda x: (x - torch.tensor([1.0, -2.0])).square().sum(), [3.0, -1.0], signed=signed)
    assert torch.allclose(iterates[-1][1], torch.tensor([1.0, -2.0]), atol=0.05)


def test_adam_counts_and_starts_at_the_start() -> None:
    iterates = run_adam(lambda x: x.square().sum(), [3.0], signed=True)
    assert [iterate.step for iterate, _ in iterates] == list(range(201))
    assert iterates[0][1].tolist() == [3.0]
    assert iterates[0][0].loss == 9.0
    assert iterates[0][0].gradient == 6.0
    assert iterates[0][0].progress == 0
    assert iterates[-1][0].progress == 1


@pytest.mark.parametrize("signed", [True, False])
def test_adam_stays_in_the_box(signed: bool) -> None:
    iterates = run_adam(lambda x: (x - 10).square().sum(), [0.0], low=-1, high=2, signed=signed)
    assert all(-1 <= float(point) <= 2 for _, point in iterates)
    assert float(iterates[-1][1]) == 2


def test_signed_steps_do_not_depend_on_the_scale_of_the_loss() -> None:
    large = run_adam(lambda x: 1e3 * x.square().sum(), [3.0, -1.0], signed=True)
    small = run_adam(lambda x: 1e-3 * x.square().sum(), [3.0, -1.0], signed=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(large, small, strict=True))
    assert large[1][1].tolist() == pytest.approx([2.9, -0.9])


def test_the_rate_is_cut_at_three_places() -> None:
    """Far from the bottom signed steps have the size of the rate: 0.1, then 0.01, 0.001 and 0.0001."""
    points = [float(point) for _, point in run_adam(lambda x: x.sum(), [50.0], signed=True)]
    sizes = [round(a - b, 3 if a - b > 5e-3 else 5) for a, b in pairwise(points)]
    assert sizes[0] == 0.1
    assert sizes[100] == 0.01
    assert sizes[150] == pytest.approx(1e-3, rel=0.02)


def test_the_point_of_the_surrogate_is_learned_along_with_the_pixels() -> None:
    model = build("lenet", classes=5, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    labels = torch.tensor([1, 2])
    case = case_of(model, random_images(2, 3, 32, 32), labels, LocalTraining(epochs=5, batch_size=2, lr=0.1))
    objective = Matching(case=case, labels=labels, distance="squared-l2", fedavg="surrogate")
    (place,) = objective.parameters()
    before = place.item()
    start = random_images(1, 2, 3, 32, 32, seed=1)
    for _ in adam(objective, start, low=LOW, high=HIGH, iterations=3, learning_rate=0.1, stop=never, signed=True):
        pass
    assert place.item() != before


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_of_the_registry_lowers_the_loss(name: str) -> None:
    solver = SOLVERS[name]
    iterates = list(
        solver.minimise(
            Problem(lambda x: (x - 1).square().sum()),  # type: ignore[arg-type]
            torch.zeros(1, 4),
            low=LOW,
            high=HIGH,
            iterations=30,
            learning_rate=0.1 if solver.takes_learning_rate else None,
            stop=never,
        )
    )
    assert iterates[-1].loss < 0.1 * iterates[0].loss
    assert solver.title
    assert solver.source


# -------------------------------------------------------------------------------------- Levenberg-Marquardt


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
