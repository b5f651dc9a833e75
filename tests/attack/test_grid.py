"""Rounding to the 8-bit grid: wrong values are corrected, and nothing off the grid is taken for a solution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deepleak_core import Scenario, observe
from deepleak_core.attack import grid
from deepleak_core.attack.grid import refine_on_grid
from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.solvers import Iterate
from deepleak_core.federated.case import Case
from deepleak_core.federated.client import share
from deepleak_core.scenario import FedAvgMethod
from deepleak_core.scoring.metrics import max_error_8bit

FEDAVG = {"mode": "fedavg", "local_epochs": 2, "local_lr": 0.01}


def never() -> bool:
    return False


def objective_of(case: Case, labels: Tensor, fedavg: FedAvgMethod = "simulated") -> Matching:
    return Matching(case=case, labels=labels, distance="squared-l2", fedavg=fedavg)


def near(objective: Matching, images: Tensor) -> Iterate:
    inputs = objective.case.model.normalise(images)[None]
    value = objective(inputs)
    return Iterate(0, inputs, float(value.loss.detach()), value.residuals, 0.0, 0.0)


@pytest.fixture(
    params=[({}, "averaged"), (FEDAVG, "simulated"), (FEDAVG, "corrected")], ids=["fedsgd", "simulated", "corrected"]
)
def solved(request: pytest.FixtureRequest) -> tuple[Matching, Tensor]:
    client, fedavg = request.param
    case, truth = observe(Scenario(indices=(0, 4), **client))
    return objective_of(case, truth.labels, fedavg), truth.images


@pytest.mark.parametrize("wrong", [0, 1, 4])
def test_values_that_round_to_a_neighbour_are_corrected(solved: tuple[Matching, Tensor], wrong: int) -> None:
    objective, private = solved
    generator = torch.Generator().manual_seed(wrong)
    images = private + 2e-5 * torch.randn(private.shape, generator=generator)
    for place in torch.randperm(private.numel(), generator=generator)[:wrong].tolist():
        images.view(-1)[place] += 0.6 / 255 if images.view(-1)[place] < 0.5 else -0.6 / 255
    copy = refine_on_grid(objective, near(objective, images), stop=never)
    assert copy is not None
    assert max_error_8bit(objective.case.model.denormalise(copy.inputs[0]), private).tolist() == [0, 0]


def test_a_wrong_value_that_hardly_shows_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "ROUNDING", 1e-7)  # as if the batch were a hundred times as large
    case, truth = observe(Scenario(indices=(0, 4)))
    objective, images = objective_of(case, truth.labels), truth.images.clone()
    images[0, 0, -1, -1] += 1 / 255 if images[0, 0, -1, -1] < 0.5 else -1 / 255
    wrong = near(objective, images)
    assert wrong.residual < grid.ROUNDING
    copy = refine_on_grid(objective, wrong, stop=never)
    assert copy is not None
    assert max_error_8bit(case.model.denormalise(copy.inputs[0]), truth.images).tolist() == [0, 0]


def off_the_grid(case: Case, images: Tensor, labels: Tensor) -> tuple[Case, Tensor, Tensor]:
    shifted = (images * 0.9 + 0.5 / 255).clamp(0, 1)
    update = share(case.model, shifted, labels, case.update.local)
    return Case(**{**vars_of(case), "update": update}), shifted, labels


def with_noise(case: Case, images: Tensor, labels: Tensor) -> tuple[Case, Tensor, Tensor]:
    noisy = {name: t + 1e-4 * t.norm() * torch.randn_like(t) for name, t in case.update.tensors.items()}
    update = type(case.update)(tensors=noisy, batch_size=2, local=case.update.local)
    return Case(**{**vars_of(case), "update": update}), images, labels


def wrong_labels(case: Case, images: Tensor, labels: Tensor) -> tuple[Case, Tensor, Tensor]:
    return case, images, labels.flip(0)


def vars_of(case: Case) -> dict[str, object]:
    return {name: getattr(case, name) for name in ("model", "update", "class_names", "image_shape", "trained")}


CLIENTS: dict[str, dict[str, Any]] = {
    "fedsgd": {},
    "fedavg": FEDAVG,
    "mini-batches": {"mode": "fedavg", "local_epochs": 2, "local_batch_size": 1},
    "momentum": {"mode": "fedavg", "local_epochs": 2, "local_momentum": 0.9},
}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("fedavg", ["simulated", "corrected"])
@pytest.mark.parametrize("how", [off_the_grid, with_noise, wrong_labels])
def test_what_does_not_explain_the_update_is_never_taken_for_exact(
    how: Callable[[Case, Tensor, Tensor], tuple[Case, Tensor, Tensor]], fedavg: FedAvgMethod, client: dict[str, Any]
) -> None:
    case, truth = observe(Scenario(indices=(4, 0), **client))
    case, images, labels = how(case, truth.images, truth.labels)
    objective = objective_of(case, labels, fedavg)
    assert refine_on_grid(objective, near(objective, images), stop=never) is None


def test_a_search_goes_on_with_the_objective_it_had() -> None:
    case, truth = observe(Scenario(indices=(4, 0), **FEDAVG))
    objective = objective_of(case, truth.labels, "corrected")
    point = torch.zeros(1, *truth.images.shape)
    objective.renew(point, 0)
    before = objective(point).loss.item()
    assert refine_on_grid(objective, near(objective, truth.images.flip(0)), stop=never) is None
    assert objective(point).loss.item() == before
