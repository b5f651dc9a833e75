"""Adam on small problems whose solution is known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.solvers import Iterate, adam
from deepleak_core.federated.client import LocalTraining
from deepleak_core.federated.models import build
from tests.attack.solvers.problem import HIGH, LOW, Problem, never
from tests.helpers import case_of, random_images


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


@pytest.mark.parametrize("signed", [True, False])
def test_its_points_are_those_of_pytorchs_adam(signed: bool) -> None:
    scales = torch.logspace(-3, 3, 40)
    start = torch.linspace(-1, 1, 40)

    def function(x: Tensor) -> Tensor:
        return (scales * (x - 0.3).square()).sum() + torch.cos(3 * x).sum()

    point = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([point], lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [75, 125, 175], 0.1)
    for _, reached in run_adam(function, start.tolist(), signed=signed):
        torch.testing.assert_close(reached, point.detach(), rtol=1e-4, atol=1e-5)
        (gradient,) = torch.autograd.grad(function(point), point)
        point.grad = gradient.sign() if signed else gradient
        optimizer.step()
        schedule.step()


def test_the_rate_falls_as_the_schedule_says() -> None:
    """Far from the bottom signed steps have the size of the rate."""
    iterates = adam(
        Problem(lambda x: x.sum()),  # type: ignore[arg-type]
        torch.tensor([[50.0]]),
        low=LOW,
        high=HIGH,
        iterations=10,
        learning_rate=0.5,
        stop=never,
        schedule=lambda progress: 1 - progress,
        signed=True,
    )
    points = [float(iterate.inputs) for iterate in iterates]
    assert [a - b for a, b in pairwise(points)] == pytest.approx([0.5 * (1 - i / 10) for i in range(10)], abs=1e-4)
