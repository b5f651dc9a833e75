"""Gradient matching with the last layer in factors: the same value and gradient as with the layer formed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from deepleak_core.attack import factored
from deepleak_core.attack.objectives import DISTANCES, Matching
from deepleak_core.federated.case import Case, observe
from deepleak_core.federated.models import MODELS
from deepleak_core.scenario import FedAvgMethod, Scenario


def residual_of(case: Case, labels: Tensor, inputs: Tensor, fedavg: FedAvgMethod = "averaged") -> float:
    return Matching(case=case, labels=labels, distance="squared-l2", fedavg=fedavg).residual(inputs)


def value_and_gradient(
    case: Case, labels: Tensor, inputs: Tensor, distance: str, fedavg: FedAvgMethod = "averaged"
) -> tuple[Tensor, Tensor, Tensor]:
    objective = Matching(case=case, labels=labels, distance=distance, fedavg=fedavg)
    inputs = inputs.clone().requires_grad_()
    value = objective(inputs)
    return value.loss.detach(), value.residuals, torch.autograd.grad(value.loss, inputs)[0]


SLOW = ("convnet", "mobilenet-v2")
QUICK = [name for name in MODELS if name not in (*SLOW, "resnet18")]


@pytest.mark.parametrize(
    ("model", "bias", "distance"),
    [*itertools.product(QUICK, (True, False), DISTANCES), *((name, True, "cosine") for name in SLOW)],
)
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


LOCAL: dict[str, dict[str, Any]] = {
    "averaged": {"local_epochs": 2, "fedavg": "averaged"},
    "surrogate": {"local_epochs": 2, "fedavg": "surrogate"},
    "simulated": {"local_epochs": 3, "fedavg": "simulated"},
    "mini-batches": {"local_epochs": 2, "local_batch_size": 2, "fedavg": "simulated"},
    "two steps": {"local_batch_size": 1, "local_momentum": 0.9, "fedavg": "simulated"},
    "momentum": {"local_epochs": 2, "local_batch_size": 2, "local_momentum": 0.9, "fedavg": "simulated"},
}


CASES = [("lenet64-elu", True, client) for client in LOCAL if client != "two steps"]
CASES += [(name, bias, "two steps") for name in QUICK for bias in (True, False)]
CASES += [(name, True, "two steps") for name in SLOW]


@pytest.mark.parametrize(("model", "bias", "client"), CASES)
def test_factors_of_local_training_change_nothing_but_rounding(
    model: str, bias: bool, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = LOCAL[client]
    indices = (0, 4) if client == "two steps" else (0, 4, 5)
    network: dict[str, Any] = {"dataset": "cifar100-samples", "model": model, "head_bias": bias}
    case, truth = observe(
        Scenario(indices=indices, mode="fedavg", local_lr=0.05, local_order="known", **network, **local)
    )
    case.model.double()
    case = replace(case, update=replace(case.update, tensors={n: t.double() for n, t in case.update.tensors.items()}))
    shape = (1, len(indices), *case.image_shape)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    formed = value_and_gradient(case, truth.labels, inputs, "cosine", local["fedavg"])
    monkeypatch.setattr(factored, "LARGE", 0)
    assert Matching(case=case, labels=truth.labels, distance="cosine", fedavg=local["fedavg"]).head is not None
    found = value_and_gradient(case, truth.labels, inputs, "cosine", local["fedavg"])
    for value, expected in zip(found, formed, strict=True):
        assert (value - expected).norm() < 1e-5 * expected.norm()


def test_a_single_pixel_value_shows_in_factors_of_local_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factored, "LARGE", 0)
    scenario = Scenario(dataset="cifar100-samples", indices=(0, 4, 5), mode="fedavg", local_epochs=3)
    case, truth = observe(scenario)
    inputs = case.model.normalise(truth.images)
    at_truth = residual_of(case, truth.labels, inputs, "simulated")
    moved = truth.images.clone()
    moved[0, 0, 16, 16] = (moved[0, 0, 16, 16] + 1 / 255).clamp(0, 1)
    assert residual_of(case, truth.labels, case.model.normalise(moved), "simulated") > 10 * at_truth


def test_a_change_of_weights_that_is_not_thin_is_compared_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factored, "LARGE", 0)
    case, _ = observe(Scenario(indices=(0, 4), mode="fedavg", local_epochs=3))
    assert factored.SharedHead.of(case) is None
