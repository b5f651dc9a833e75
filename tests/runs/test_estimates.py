"""Estimates before an attack is started: its time on this CPU, and the largest batch that can be solved for."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deepleak_core.attack.bounds import most_images
from deepleak_core.federated.case import target_model
from deepleak_core.federated.models import network_of
from deepleak_core.runs.estimates import Cost, bound_of, calibrate, estimate
from deepleak_core.scenario import Scenario
from tests.helpers import use_networks

NUMBERS = 1e8  # that PyTorch computes in a counted second
COST = Cost(body={64: 0.02, 96: 0.04, 160: 0.10}, fixed=0.01, head=1e-8)
PHOTOS = Scenario(dataset="imagenet-samples", image_size=64, model="strided", device="cpu")


class Counted(TorchDispatchMode):
    """Counts the numbers that operations give."""

    numbers = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = operation(*args, **(kwargs or {}))
        self.numbers += sum(tensor.numel() for tensor in tree_leaves(given) if isinstance(tensor, Tensor))
        return given


@pytest.fixture(autouse=True)
def _same_threads() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_an_estimate_grows_with_size_batch_iterations_and_local_steps() -> None:
    sizes = [estimate(PHOTOS.changed(image_size=size), COST).seconds for size in (64, 96, 224)]
    assert sizes == sorted(sizes)
    assert sizes[2] > 4 * sizes[0]
    assert estimate(PHOTOS.changed(batch_size=8), COST).seconds > 1.5 * sizes[0]
    assert estimate(PHOTOS.changed(max_iterations=40), COST).iterations == 40
    assert estimate(PHOTOS.changed(max_iterations=40), COST).seconds == pytest.approx(sizes[0] / 10)
    steps = PHOTOS.changed(mode="fedavg", local_epochs=5)
    assert estimate(steps.changed(fedavg="averaged"), COST).seconds == pytest.approx(sizes[0])
    assert estimate(steps.changed(fedavg="simulated"), COST).seconds == pytest.approx(5 * sizes[0])


def test_what_is_solved_takes_less_than_what_is_searched_for() -> None:
    exact = PHOTOS.changed(attack="exact", image_size=224)
    bound = bound_of(exact)
    assert bound is not None
    assert bound.images is not None
    solved, searched = (estimate(exact.changed(batch_size=bound.images + n), COST) for n in (0, 1))
    assert solved.seconds < searched.seconds


@pytest.mark.parametrize("model", ["strided", "lenet64-elu"])
def test_a_machine_is_measured_once(model: str) -> None:
    cost = calibrate(model, 3)
    assert all(seconds > 0 for seconds in [*cost.body.values(), cost.head])
    assert 0 <= cost.fixed <= min(cost.body.values())
    assert calibrate(model, 3) is cost


@pytest.mark.parametrize("model", ["strided", "lenet64-elu"])
def test_larger_images_cost_more(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that counts what is computed: a machine that is busy for a moment cannot mislead it."""
    use_networks(monkeypatch, counted=replace(network_of(model), title="Counted"))
    with Counted() as counted:
        monkeypatch.setattr(time, "thread_time", lambda: counted.numbers / NUMBERS)
        cost = calibrate("counted", 3)
    sizes = [cost.seconds(1, size, 0) for size in (64, 96, 160, 224)]
    assert sizes == sorted(set(sizes))
    assert 0 < cost.fixed < sizes[0]
    assert cost.seconds(8, 96, 0) - cost.fixed == pytest.approx(8 * (sizes[1] - cost.fixed))
    assert cost.seconds(1, 96, 10**6) - cost.seconds(1, 96, 0) == pytest.approx(10**6 * cost.head)


def test_a_calibration_leaves_random_numbers_alone() -> None:
    state = torch.random.get_rng_state()
    calibrate("lenet", 1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_bound_is_that_of_the_network_and_there_is_none_for_a_search() -> None:
    exact = PHOTOS.changed(attack="exact")
    assert bound_of(exact) == most_images(target_model(exact), (3, 64, 64))
    assert bound_of(exact.changed(mode="fedavg")) is None
    assert bound_of(PHOTOS) is None
