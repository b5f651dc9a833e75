"""Images as independent components: the likelihood against a naive one, and batches of real and random layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Gamma

from deepleak_core.features.factors import Factors
from deepleak_core.features.ica import FEATURES_PER_IMAGE, GammaModel, independent_images
from deepleak_core.features.joint import implied_labels
from deepleak_core.scenario import Scenario
from tests.helpers import elu_features, knowledge_of, last_layer, random_labels


def batch(images: int, seed: int) -> tuple[Factors, Tensor, Tensor]:
    """Factors of a layer after ELU, true coordinates (K, K) and labels (K,)."""
    features, labels = elu_features(images, seed), random_labels(images, seed)
    factors = Factors.of(last_layer(features, labels, floor=-1.0, smooth=True), images)
    return factors, factors.coordinates(features), labels


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000), st.floats(1.0, 4.0))
def test_the_likelihood_is_that_of_gamma_distributed_heights(images: int, seed: int, shape: float) -> None:
    """With a hard floor and all heights above it, log-densities agree up to a constant."""
    factors, truth, _ = batch(images, seed)
    model = GammaModel(factors.heights, factors.ones)
    means = model.bounded_means((factors.heights @ truth.T).mean(1))
    spread = np.random.default_rng(seed).uniform(0.1, 0.6, 2)
    costs, naive = [], []
    for share in spread:  # all images closer together than they are: no height falls below the floor
        m = truth + share * (truth.mean(0) - truth)
        point = ((m - model.shared) @ model.across.T).flatten().numpy()
        torch.testing.assert_close(model.coordinates(point), m)
        costs.append(model.negative_log_likelihood(point, 1e-6, shape, means)[0])
        heights = factors.heights @ m.T
        chance = Gamma(torch.tensor(shape, dtype=torch.float64), (shape / means)[:, None]).log_prob(heights)
        naive.append(-float(chance.sum()) / len(heights) - float(torch.linalg.slogdet(m)[1]))
    assert costs[0] - costs[1] == pytest.approx(naive[0] - naive[1], rel=1e-6, abs=1e-8)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 11), st.integers(0, 10_000))
def test_what_is_found_is_near_the_images(images: int, seed: int) -> None:
    factors, truth, labels = batch(images, seed)
    found = independent_images(factors)
    assert found is not None
    distances = torch.cdist(found, truth) / truth.norm(dim=1)
    nearest = distances.argmin(1)
    assert sorted(nearest.tolist()) == list(range(images)), "an image twice"
    assert distances.amin(1).max() < 0.6
    right = implied_labels(factors, found[None])[0].argmax(1) == labels[nearest]
    assert right.double().mean() >= 0.8


@pytest.mark.parametrize("stage", ["early", "late"])
def test_components_of_photos_imply_their_labels(stage: str) -> None:
    known, counts = knowledge_of(Scenario(model="lenet64-elu", stage=stage, indices=(0, 1, 4, 5, 7, 19)))
    factors = Factors.of(known.last_layer, 6)
    found = independent_images(factors)
    assert found is not None
    implied = implied_labels(factors, found[None])[0].argmax(1)
    assert torch.equal(torch.bincount(implied, minlength=10), counts)


@pytest.mark.parametrize("missing", ["bias", "floor", "smoothness", "features", "images"])
def test_there_is_no_answer_where_features_are_not_enough(missing: str) -> None:
    images = 1 if missing == "images" else 5
    dimension = FEATURES_PER_IMAGE * images - (1 if missing == "features" else 0)
    features, labels = elu_features(images, 0, dimension), random_labels(images, 0)
    floor = None if missing == "floor" else -1.0
    layer = last_layer(features, labels, bias=missing != "bias", floor=floor, smooth=missing != "smoothness")
    assert independent_images(Factors.of(layer, images)) is None


def test_enough_features_are_enough() -> None:
    features, labels = elu_features(5, 0, FEATURES_PER_IMAGE * 5), random_labels(5, 0)
    assert independent_images(Factors.of(last_layer(features, labels, floor=-1.0, smooth=True), 5)) is not None


@pytest.mark.parametrize("steps", [0, 3])
def test_it_can_be_stopped(steps: int) -> None:
    asked = itertools.count()
    assert independent_images(batch(8, 0)[0], stop=lambda: next(asked) >= steps) is None
    assert next(asked) <= steps + 2, "it went on"


def test_another_seed_starts_elsewhere_and_ends_at_the_same_images() -> None:
    factors, truth, _ = batch(5, 3)
    first, second = independent_images(factors), independent_images(factors, seed=1)
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)
    nearest = [(torch.cdist(found, truth)).argmin(1).tolist() for found in (first, second)]
    assert sorted(nearest[0]) == sorted(nearest[1])
