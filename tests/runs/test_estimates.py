"""Estimates before an attack is started: its time on this CPU, and the largest batch that can be solved for."""

from __future__ import annotations

import time

import pytest
import torch

from deepleak_core.attack.bounds import most_images
from deepleak_core.federated.case import target_model
from deepleak_core.runs.estimates import Cost, bound_of, calibrate, estimate
from deepleak_core.scenario import Scenario

COST = Cost(body={64: 0.02, 96: 0.04, 160: 0.10}, fixed=0.01, head=1e-8)
PHOTOS = Scenario(dataset="imagenet-samples", image_size=64, model="strided", device="cpu")


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
def test_a_machine_is_measured_once_and_larger_images_cost_more(model: str) -> None:
    cost = calibrate(model, 3)
    assert all(seconds > 0 for seconds in cost.body.values())
    assert 0 <= cost.fixed <= min(cost.body.values())
    assert cost.seconds(1, 224, 0) > cost.seconds(1, 96, 0) >= cost.seconds(1, 64, 0) * 0.9
    began = time.process_time()
    assert calibrate(model, 3) is cost
    assert time.process_time() - began < 0.05


def test_a_calibration_leaves_random_numbers_alone() -> None:
    state = torch.random.get_rng_state()
    calibrate("lenet", 1)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_bound_is_that_of_the_network_and_there_is_none_for_a_search() -> None:
    exact = PHOTOS.changed(attack="exact")
    assert bound_of(exact) == most_images(target_model(exact), (3, 64, 64))
    assert bound_of(exact.changed(mode="fedavg")) is None
    assert bound_of(PHOTOS) is None
