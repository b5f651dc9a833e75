"""Gradient matching with the last layer in factors: the same value and gradient as with the layer formed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepleak_core.attack import factored
from deepleak_core.attack.objectives import DISTANCES, Matching
from deepleak_core.federated.case import Case, observe
from deepleak_core.federated.models import MODELS
from deepleak_core.scenario import Scenario


def residual_of(case: Case, labels: Tensor, inputs: Tensor) -> float:
    return Matching(case=case, labels=labels, distance="squared-l2").residual(inputs)


def value_and_gradient(case: Case, labels: Tensor, inputs: Tensor, distance: str) -> tuple[Tensor, Tensor, Tensor]:
    objective = Matching(case=case, labels=labels, distance=distance)
    inputs = inputs.clone().requires_grad_()
    value = objective(inputs)
    return value.loss.detach(), value.residuals, torch.autograd.grad(value.loss, inputs)[0]


@pytest.mark.parametrize("model", [name for name, network in MODELS.items() if name != "resnet18"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("distance", DISTANCES)
def test_factors_change_nothing_but_rounding(
    model: str, bias: bool, distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, truth = observe(Scenario(indices=(0, 4, 5), model=model, head_bias=bias))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 3, *case.image_shape, generator=generator)
    formed = value_and_gradient(case, truth.labels, inputs, distance)
    residual = residual_of(case, truth.labels, inputs[0])
    monkeypatch.setattr(factored, "LARGE", 0)
    assert Matching(case=case, labels=truth.labels, distance=distance).head is not None
    loss, residuals, gradient = value_and_gradient(case, truth.labels, inputs, distance)
    torch.testing.assert_close(loss, formed[0], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(residuals, formed[1], rtol=1e-3, atol=1e-6)
    assert (gradient - formed[2]).norm() < 1e-2 * formed[2].norm()
    assert residual_of(case, truth.labels, inputs[0]) == pytest.approx(residual, rel=1e-3, abs=1e-6)


def test_nothing_cancels_at_the_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factored, "LARGE", 0)
    case, truth = observe(Scenario(indices=(0, 1, 3, 4)))
    assert residual_of(case, truth.labels, case.model.normalise(truth.images)) < 1e-12
    moved = truth.images.clone()
    moved[0, 0, 16, 16] = (moved[0, 0, 16, 16] + 1 / 255).clamp(0, 1)
    assert residual_of(case, truth.labels, case.model.normalise(moved)) > 1e-11


@pytest.mark.parametrize("values", [{"mode": "fedavg", "local_epochs": 1}, {"mode": "fedavg", "local_epochs": 3}])
def test_changes_of_weights_are_compared_as_they_are(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factored, "LARGE", 0)
    case, _ = observe(Scenario(indices=(0, 4), **values))
    assert factored.SharedHead.of(case) is None
