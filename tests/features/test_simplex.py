"""The largest simplex within the bounds of features: against brute force, and on batches of real and random layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import HalfspaceIntersection
from threadpoolctl import threadpool_info
from torch import Tensor

from deepleak_core.data.batches import load_batch
from deepleak_core.features import simplex
from deepleak_core.features.joint import read_labels
from deepleak_core.features.last_layer import summed_gradient
from deepleak_core.features.one_by_one import Factors
from deepleak_core.features.simplex import SHARES, _Polytope, largest_simplices
from deepleak_core.federated import client
from deepleak_core.federated.case import target_model
from deepleak_core.labels.strategies import Knowledge
from deepleak_core.scenario import Scenario
from tests.features.test_one_by_one import drawn, factored, last_layer


def sparse(images: int, seed: int, features: int = 400) -> tuple[Tensor, Tensor]:
    """Features (K, D) as after ReLU, about half of them zero, and labels (K,) that may repeat."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(features, generator=generator)
    values = (common + torch.randn(images, features, generator=generator)).relu()
    return values.double(), torch.randint(12, (images,), generator=generator)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10_000))
def test_after_relu_the_corners_are_the_images(images: int, seed: int) -> None:
    features, labels = sparse(images, seed)
    factors = factored(last_layer(features, labels, floor=0.0), images)
    corners, _ = next(largest_simplices(factors))
    truth = factors.coordinates(features.double())
    apart = torch.cdist(corners, truth) / truth.norm(dim=1)
    nearest = apart.argmin(1)
    assert sorted(nearest.tolist()) == list(range(images)), "an image twice"
    assert apart.amin(1).max() < 1e-4
    assert torch.equal(read_labels(factors, corners[None])[0].argmax(1), labels[nearest])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_three_corners_span_as_much_as_any_three_of_a_polygon(seed: int) -> None:
    """In the plane the largest triangle has its corners among those of the polygon: all of them are tried."""
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, 9))
    walls = np.stack([np.cos(angles), np.sin(angles), 1 + random.uniform(0, 1, 9)], 1)
    polytope = _Polytope(walls, np.array([0.0, 0.0, 1.0]), random)
    found = polytope.largest_simplex(lambda: False)
    if found is None or np.abs(found).max() > 0.9 * polytope.far:  # a side is open: nothing to compare with
        return
    polygon = HalfspaceIntersection(np.c_[-walls[:, :2], -walls[:, 2] - polytope.slack], np.zeros(2)).intersections
    corners = np.c_[polygon, np.ones(len(polygon))]
    best = max(abs(np.linalg.det(corners[list(three)])) for three in itertools.combinations(range(len(corners)), 3))
    volume = abs(np.linalg.det(found))
    assert volume <= best * (1 + 1e-6)
    assert volume >= 0.5 * best, "moving one corner at a time may end beside the best, not far from it"


def test_cutting_planes_end_within_every_wall() -> None:
    features, labels = sparse(6, 3, features=2000)
    factors = factored(last_layer(features, labels, floor=0.0), 6)
    corners, walls = next(largest_simplices(factors))
    heights = corners @ factors.heights.T
    typical = float((factors.heights @ factors.ones).abs().mean() / factors.ones.square().sum())
    assert heights.min() >= -0.01 * typical
    assert len(walls) < 1000, "linear programs over all features"


@pytest.mark.parametrize(("model", "stage"), [("lenet64-relu", "late"), ("lenet64-elu", "late")])
def test_labels_of_a_trained_network_are_read_off_the_corners(model: str, stage: str) -> None:
    """Eight images of ten classes, labels repeating: no label is guessed, none is used."""
    scenario = Scenario(model=model, stage=stage, indices=(0, 1, 4, 5, 7, 8, 9, 19))
    batch, network = load_batch(scenario), target_model(scenario)
    known = Knowledge.of(network, client.share(network, batch.images, batch.labels), image_size=32, seed=0)
    factors = Factors.of(known.last_layer, summed_gradient(known.last_layer, 8), 8)
    corners, _ = next(largest_simplices(factors))
    assert torch.equal(read_labels(factors, corners[None])[0].argmax(1).sort().values, batch.labels.sort().values)


@pytest.mark.parametrize("missing", ["floor", "bias"])
def test_without_a_bound_or_a_bias_there_is_no_simplex(missing: str) -> None:
    layer = last_layer(*drawn(4, 0), bias=missing != "bias", floor=None if missing == "floor" else 0.0)
    assert list(largest_simplices(factored(layer, 4))) == []


def test_a_corner_is_made_exact_only_where_more_walls_meet_than_there_must() -> None:
    features, labels = sparse(5, 2)
    factors = factored(last_layer(features, labels, floor=0.0), 5)
    polytope = _Polytope(factors.heights.numpy(), factors.ones.numpy(), np.random.default_rng(0))
    truth = factors.coordinates(features).numpy()
    beside = truth[0] + 1e-4 * (truth[1] - truth[0])
    assert np.linalg.norm(polytope.sharpened(beside) - truth[0]) < 0.01 * np.linalg.norm(beside - truth[0])
    middle = truth.mean(0)
    assert np.array_equal(polytope.sharpened(middle), middle), "it leans on dead features alone"
    alone = _Polytope(np.array([[0.0, 0.0, 1.0]]), np.array([0.0, 0.0, 1.0]), np.random.default_rng(0))
    assert np.array_equal(alone.sharpened(np.ones(3)), np.ones(3)), "it leans on nothing"


def test_one_image_is_its_own_corner() -> None:
    features, labels = sparse(1, 0)
    factors = factored(last_layer(features, labels, floor=0.0), 1)
    corners, _ = next(largest_simplices(factors))
    assert torch.allclose(corners, factors.coordinates(features), rtol=1e-5)


def test_very_many_images_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = sparse(4, 0)
    four = factored(last_layer(features, labels, floor=0.0), 4)
    monkeypatch.setattr(simplex, "LARGEST", 4)
    assert list(largest_simplices(four))
    monkeypatch.setattr(simplex, "LARGEST", 3)
    assert list(largest_simplices(four)) == []


def test_a_search_that_is_stopped_yields_nothing() -> None:
    factors = factored(last_layer(*drawn(4, 0), floor=0.0), 4)
    assert list(largest_simplices(factors, stop=lambda: True)) == []
    asked = itertools.count()
    assert list(largest_simplices(factors, stop=lambda: next(asked) >= 6)) == [], "stopped on the way"
    assert next(asked) <= 7 + 4 * len(SHARES), "no more than where to begin was looked for afterwards"


def test_small_matrices_are_not_shared_among_threads() -> None:
    def blas_threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before, during = blas_threads(), []
    factors = factored(last_layer(*drawn(4, 0), floor=0.0), 4)
    for _ in largest_simplices(factors, stop=lambda: during.extend(blas_threads())):
        assert blas_threads() == before, "between trials, whoever reads them has all threads"
    assert during and set(during) == {1}


def test_every_trial_raises_the_floor_while_there_is_room() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.elu(0.3 * torch.randn(5, 400, generator=generator)).double()
    trials = list(largest_simplices(factored(last_layer(smooth, torch.arange(5), floor=-1.0), 5)))
    spans = [float(torch.linalg.slogdet(corners)[1]) for corners, _ in trials]
    assert 2 <= len(trials) <= len(SHARES)
    assert spans == sorted(spans, reverse=True), "a smaller polytope holds a smaller simplex"
    features, labels = sparse(5, 1)  # half of what is seen lies on the floor: it cannot be raised at all
    assert len(list(largest_simplices(factored(last_layer(features - 1, labels, floor=-1.0), 5)))) == 1
