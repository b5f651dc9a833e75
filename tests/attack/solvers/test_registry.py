"""Every solver of the registry."""

from __future__ import annotations

import pytest
import torch

from deepleak_core.attack.solvers import SOLVERS
from tests.attack.solvers.problem import HIGH, LOW, Problem, never


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
