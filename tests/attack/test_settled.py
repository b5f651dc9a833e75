"""A search ends once nothing moves any more, and not while an image moves or the residual falls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.run import reconstruct
from deepleak_core.attack.settled import FALLING, SOLVED_RESIDUAL, SOLVED_STEPS, STILL, STILL_STEPS, Solved, until_still
from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import Finished
from deepleak_core.federated.case import Case, observe
from deepleak_core.scenario import Scenario

STEPS = 200
LEVEL = 1 / 255


@pytest.fixture(scope="module")
def case() -> Case:
    return observe(Scenario(indices=(0, 4)))[0]


def iterates(case: Case, images_at: Callable[[int], Tensor], residual_at: Callable[[int], float]) -> Iterator[Iterate]:
    for step in range(STEPS + 1):
        inputs = case.model.normalise(images_at(step))[None]
        residuals = torch.tensor([residual_at(step)])
        yield Iterate(step, inputs, loss=1.0, residuals=residuals, gradient=1.0, progress=step / STEPS)


def steps_taken(case: Case, images_at: Callable[[int], Tensor], residual_at: Callable[[int], float]) -> int:
    return len(list(until_still(iterates(case, images_at, residual_at), case))) - 1


GREY = torch.full((2, 3, 32, 32), 0.4)


def test_a_search_that_stands_still_ends(case: Case) -> None:
    assert steps_taken(case, lambda step: GREY, lambda step: 0.1) == STILL_STEPS


def test_a_search_goes_on_while_one_image_moves(case: Case) -> None:
    def drifting(step: int) -> Tensor:
        images = GREY.clone()
        images[1] += 2 * STILL * LEVEL * step / STILL_STEPS
        return images

    assert steps_taken(case, drifting, lambda step: 0.1) == STEPS


def test_a_search_goes_on_while_the_residual_falls_and_ends_when_it_only_varies(case: Case) -> None:
    assert steps_taken(case, lambda step: GREY, lambda step: FALLING ** (step / 10)) == STEPS
    assert steps_taken(case, lambda step: GREY, lambda step: 0.1 + 0.001 * (step % 2)) < STEPS


def test_what_moved_until_late_counts_from_there(case: Case) -> None:
    halfway = STEPS // 2
    ends = steps_taken(case, lambda step: GREY + LEVEL * min(step, halfway), lambda step: 0.1)
    assert halfway < ends <= halfway + STILL_STEPS


def test_solved_means_matched_to_rounding_without_a_change_of_a_pixel(case: Case) -> None:
    solved = Solved(case)
    at_rounding = list(iterates(case, lambda step: GREY, lambda step: SOLVED_RESIDUAL / 2))
    assert [solved.reached(iterate) for iterate in at_rounding[: SOLVED_STEPS + 1]] == [False] * SOLVED_STEPS + [True]
    solved = Solved(case)
    moving = iterates(case, lambda step: GREY + LEVEL * (step % 2), lambda step: SOLVED_RESIDUAL / 2)
    assert not any(map(solved.reached, moving))
    solved = Solved(case)
    assert not any(map(solved.reached, iterates(case, lambda step: GREY, lambda step: 2 * SOLVED_RESIDUAL)))


@pytest.mark.slow
def test_the_default_attack_ends_early(case: Case) -> None:
    *_, finished = reconstruct(case)
    assert isinstance(finished, Finished)
    assert finished.reason == "converged"
    assert finished.step < 0.8 * ATTACKS["general-deep-leakage"].settings.iterations
