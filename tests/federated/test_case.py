"""Cases of scenarios: what the server knows, what only the client knows, and what both follow from."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from deepleak_core import observe
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated.case import Case, choose_device, describe_device, observe_model, target_model
from deepleak_core.scenario import Scenario

SCENARIO = Scenario(indices=(0, 1, 3, 4), device="cpu")


def test_a_case_and_its_ground_truth_belong_together() -> None:
    case, truth = observe(SCENARIO)
    assert case.update.batch_size == len(truth.images) == 4
    assert case.image_shape == truth.images.shape[1:]
    assert case.class_names == truth.class_names
    loss = torch.nn.functional.cross_entropy(case.model(truth.images), truth.labels)
    expected = torch.autograd.grad(loss, list(case.model.parameters()))
    for tensor, found in zip(expected, case.gradient.values(), strict=True):
        torch.testing.assert_close(found, tensor, atol=1e-6, rtol=1e-4)


def test_no_tensor_of_a_case_is_the_private_batch() -> None:
    assert [field.name for field in fields(Case)] == ["model", "update", "class_names", "image_shape", "trained"]
    case, truth = observe(SCENARIO)
    storages = {tensor.data_ptr() for tensor in (truth.images, truth.labels)}
    tensors = [*case.model.state_dict().values(), *case.update.tensors.values(), *case.gradient.values()]
    assert not storages & {tensor.data_ptr() for tensor in tensors}
    assert all(not tensor.requires_grad for tensor in case.gradient.values())


def test_draws_differ_in_the_batch_alone() -> None:
    scenario = Scenario(composition="random", batch_size=6, device="cpu")
    (first, one), (second, other), (_, again) = (observe(scenario, draw=draw) for draw in (0, 1, 0))
    assert one.indices == again.indices != other.indices
    weights = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_a_model_that_is_built_already_gives_the_same_case() -> None:
    case, _ = observe(SCENARIO)
    other, _ = observe_model(target_model(SCENARIO), SCENARIO)
    assert all(torch.equal(tensor, other.gradient[name]) for name, tensor in case.gradient.items())


@pytest.mark.parametrize("local_batch_size", [4, 2])
def test_the_gradient_of_a_fedavg_update_is_the_scaled_change_of_weights(local_batch_size: int) -> None:
    scenario = SCENARIO.changed(mode="fedavg", local_epochs=2, local_batch_size=local_batch_size, local_lr=0.05)
    case, _ = observe(scenario)
    steps = 2 * 4 // local_batch_size
    assert case.update.local_steps == steps
    before = dict(case.model.named_parameters())
    for name, after in case.update.tensors.items():
        torch.testing.assert_close(case.gradient[name], (before[name].detach() - after) / (0.05 * steps))


def test_whether_a_model_is_trained_is_public() -> None:
    assert [observe(SCENARIO.changed(stage=stage))[0].trained for stage in ("untrained", "late")] == [False, True]


def test_cases_can_be_observed_where_gradients_are_switched_off() -> None:
    expected, _ = observe(SCENARIO)
    with torch.no_grad():
        case, _ = observe(SCENARIO)
    assert all(torch.equal(tensor, expected.gradient[name]) for name, tensor in case.gradient.items())


def test_unknown_parts_are_refused() -> None:
    for values in ({"model": "vgg"}, {"dataset": "none"}):
        with pytest.raises(UnsupportedScenario):
            observe(SCENARIO.changed(**values))


def test_devices() -> None:
    assert choose_device(SCENARIO).type == "cpu"
    assert choose_device(SCENARIO.changed(device="cuda:1")).index == 1
    assert choose_device(Scenario()).type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert "CPU" in describe_device(torch.device("cpu"))
