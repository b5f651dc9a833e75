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

from deepleak_core.features import simplex
from deepleak_core.features.factors import Factors
from deepleak_core.features.joint import implied_labels
from deepleak_core.features.simplex import FLOOR_SHARES, Polytope, largest_simplices
from deepleak_core.scenario import Scenario
from tests.helpers import knowledge_of, last_layer, random_labels, relu_features


def sparse(images: int, seed: int, dimension: int = 400) -> tuple[Factors, Tensor, Tensor]:
    """Factors of a layer after ReLU, its features (K, D) and labels (K,)."""
    features, labels = relu_features(images, seed, dimension), random_labels(images, seed)
    return Factors.of(last_layer(features, labels, floor=0.0), images), features, labels


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10_000))
def test_after_relu_the_vertices_are_the_images(images: int, seed: int) -> None:
    factors, features, labels = sparse(images, seed)
    vertices, _ = next(largest_simplices(factors))
    truth = factors.coordinates(features)
    distances = torch.cdist(vertices, truth) / truth.norm(dim=1)
    nearest = distances.argmin(1)
    assert sorted(nearest.tolist()) == list(range(images)), "an image twice"
    assert distances.amin(1).max() < 1e-4
    assert torch.equal(implied_labels(factors, vertices[None])[0].argmax(1), labels[nearest])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_three_vertices_span_about_as_much_as_any_three_of_a_polygon(seed: int) -> None:
    """In the plane the largest triangle has its vertices among those of the polygon: all of them are tried."""
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, 9))
    bounds = np.stack([np.cos(angles), np.sin(angles), 1 + random.uniform(0, 1, 9)], 1)
    polytope = Polytope(bounds, np.array([0.0, 0.0, 1.0]), random)
    found = polytope.largest_simplex(lambda: False)
    if found is None or np.abs(found).max() > 0.9 * polytope.far:  # unbounded: nothing to compare with
        return
    polygon = HalfspaceIntersection(np.c_[-bounds[:, :2], -bounds[:, 2] - polytope.slack], np.zeros(2)).intersections
    vertices = np.c_[polygon, np.ones(len(polygon))]
    best = max(abs(np.linalg.det(vertices[list(three)])) for three in itertools.combinations(range(len(vertices)), 3))
    volume = abs(np.linalg.det(found))
    assert volume <= best * (1 + 1e-6)
    assert volume >= 0.5 * best, "moving one vertex at a time may end near the best, not far from it"


def test_cutting_planes_end_within_every_bound() -> None:
    factors, _, _ = sparse(6, 3, dimension=2000)
    vertices, bounds = next(largest_simplices(factors))
    assert (vertices @ factors.heights.T).min() >= -0.01 * factors.typical_height
    assert len(bounds) < 1000, "linear programs over all features"


@pytest.mark.parametrize("model", ["lenet64-relu", "lenet64-elu"])
def test_vertices_imply_the_labels_of_a_trained_network(model: str) -> None:
    """Eight images of ten classes, labels repeating: no label is guessed, none is used."""
    known, counts = knowledge_of(Scenario(model=model, stage="late", indices=(0, 1, 4, 5, 7, 8, 9, 19)))
    factors = Factors.of(known.last_layer, 8)
    vertices, _ = next(largest_simplices(factors))
    implied = implied_labels(factors, vertices[None])[0].argmax(1)
    assert torch.equal(torch.bincount(implied, minlength=10), counts)


@pytest.mark.parametrize("missing", ["floor", "bias"])
def test_without_a_floor_or_a_bias_there_is_no_simplex(missing: str) -> None:
    floor = None if missing == "floor" else 0.0
    layer = last_layer(relu_features(4, 0), random_labels(4, 0), bias=missing != "bias", floor=floor)
    assert list(largest_simplices(Factors.of(layer, 4))) == []


def test_a_vertex_is_sharpened_only_where_more_bounds_meet_than_there_must() -> None:
    factors, features, _ = sparse(5, 2)
    polytope = Polytope(factors.heights.numpy(), factors.ones.numpy(), np.random.default_rng(0))
    truth = factors.coordinates(features).numpy()
    beside = truth[0] + 1e-4 * (truth[1] - truth[0])
    assert np.linalg.norm(polytope.sharpened(beside) - truth[0]) < 0.01 * np.linalg.norm(beside - truth[0])
    middle = truth.mean(0)
    assert np.array_equal(polytope.sharpened(middle), middle), "features that are zero everywhere are no bounds"
    alone = Polytope(np.array([[0.0, 0.0, 1.0]]), np.array([0.0, 0.0, 1.0]), np.random.default_rng(0))
    assert np.array_equal(alone.sharpened(np.ones(3)), np.ones(3))


def test_one_image_is_the_only_vertex() -> None:
    factors, features, _ = sparse(1, 0)
    vertices, _ = next(largest_simplices(factors))
    assert torch.allclose(vertices, factors.coordinates(features), rtol=1e-5)


def test_very_large_batches_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    factors, _, _ = sparse(4, 0)
    monkeypatch.setattr(simplex, "MOST_IMAGES", 4)
    assert list(largest_simplices(factors))
    monkeypatch.setattr(simplex, "MOST_IMAGES", 3)
    assert list(largest_simplices(factors)) == []


def test_a_search_that_is_stopped_yields_nothing() -> None:
    factors, _, _ = sparse(4, 0, dimension=40)
    assert list(largest_simplices(factors, stop=lambda: True)) == []
    asked = itertools.count()
    assert list(largest_simplices(factors, stop=lambda: next(asked) >= 6)) == [], "stopped on the way"
    assert next(asked) <= 7 + 4 * len(FLOOR_SHARES), "later trials went on"


def test_small_matrices_are_not_shared_among_threads() -> None:
    def blas_threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before, during = blas_threads(), []
    factors, _, _ = sparse(4, 0, dimension=40)
    for _ in largest_simplices(factors, stop=lambda: during.extend(blas_threads())):
        assert blas_threads() == before, "between trials, the caller has all threads"
    assert during
    assert set(during) == {1}


def test_every_trial_raises_the_floor_while_there_is_room() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.elu(0.3 * torch.randn(5, 400, generator=generator)).double()
    trials = list(largest_simplices(Factors.of(last_layer(smooth, torch.arange(5), floor=-1.0), 5)))
    volumes = [float(torch.linalg.slogdet(vertices)[1]) for vertices, _ in trials]
    assert 2 <= len(trials) <= len(FLOOR_SHARES)
    assert volumes == sorted(volumes, reverse=True), "a smaller polytope holds a smaller simplex"
    layer = last_layer(relu_features(5, 1, 400) - 1, random_labels(5, 1), floor=-1.0)
    assert len(list(largest_simplices(Factors.of(layer, 5)))) == 1, "half of all features lie on the floor"
