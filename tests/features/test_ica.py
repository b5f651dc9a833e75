"""Images as independent components: the likelihood against a naive one, and batches of real and random layers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Gamma

from deepleak_core.data.batches import load_batch
from deepleak_core.features.ica import FEATURES, _Voices, independent_images
from deepleak_core.features.joint import read_labels
from deepleak_core.features.last_layer import summed_gradient
from deepleak_core.features.one_by_one import Factors
from deepleak_core.federated import client
from deepleak_core.federated.case import target_model
from deepleak_core.labels.strategies import Knowledge
from deepleak_core.scenario import Scenario
from tests.features.test_one_by_one import factored, last_layer


def smooth(images: int, seed: int, features: int = 600) -> tuple[Tensor, Tensor]:
    """Features (K, D) as after ELU, which share a part, and labels (K,) that may repeat."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(features, generator=generator) / 2
    values = torch.nn.functional.elu(common + torch.randn(images, features, generator=generator))
    return values.double(), torch.randint(12, (images,), generator=generator)


def factors_of(images: int, seed: int) -> tuple[Factors, Tensor, Tensor]:
    """Factors, true coordinates (K, K) and labels (K,)."""
    features, labels = smooth(images, seed)
    factors = factored(last_layer(features, labels, floor=-1.0, smooth=True), images)
    return factors, factors.coordinates(features), labels


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000), st.floats(1.0, 4.0))
def test_the_likelihood_is_that_of_gamma_distributed_heights(images: int, seed: int, shape: float) -> None:
    """With a hard floor; where all heights are above it, log-densities say the same up to a constant."""
    factors, truth, _ = factors_of(images, seed)
    assert factors.heights is not None and factors.ones is not None
    voices = _Voices(factors.heights, factors.ones)
    means = voices.typical_means((factors.heights @ truth.T).mean(1))
    spread = np.random.default_rng(seed).uniform(0.1, 0.6, 2)
    costs, naive = [], []
    for share in spread:  # all images closer together than they are: no height falls below the floor
        m = truth + share * (truth.mean(0) - truth)
        point = ((m - voices.shared) @ voices.across.T).flatten().numpy()
        torch.testing.assert_close(voices.coordinates(point), m)
        costs.append(voices.unlikelihood(point, 1e-6, shape, means)[0])
        heights = factors.heights @ m.T
        chance = Gamma(torch.tensor(shape, dtype=torch.float64), (shape / means)[:, None]).log_prob(heights)
        naive.append(-float(chance.sum()) / len(heights) - float(torch.linalg.slogdet(m)[1]))
    assert costs[0] - costs[1] == pytest.approx(naive[0] - naive[1], rel=1e-6, abs=1e-8)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 11), st.integers(0, 10_000))
def test_what_is_found_is_near_the_images(images: int, seed: int) -> None:
    factors, truth, labels = factors_of(images, seed)
    found = independent_images(factors)
    assert found is not None
    apart = torch.cdist(found, truth) / truth.norm(dim=1)
    nearest = apart.argmin(1)
    assert sorted(nearest.tolist()) == list(range(images)), "an image twice"
    assert apart.amin(1).max() < 0.6
    right = read_labels(factors, found[None])[0].argmax(1) == labels[nearest]
    assert right.double().mean() >= 0.8


@pytest.mark.parametrize("stage", ["early", "late"])
def test_photos_in_a_trained_network_are_read_off_right(stage: str) -> None:
    scenario = Scenario(model="lenet64-elu", stage=stage, indices=(0, 1, 4, 5, 7, 19))
    batch, model = load_batch(scenario), target_model(scenario)
    known = Knowledge.of(model, client.share(model, batch.images, batch.labels), image_size=32, seed=0)
    factors = Factors.of(known.last_layer, summed_gradient(known.last_layer, 6), 6)
    found = independent_images(factors)
    assert found is not None
    assert sorted(read_labels(factors, found[None])[0].argmax(1).tolist()) == sorted(batch.labels.tolist())


@pytest.mark.parametrize("missing", ["bias", "floor", "smoothness", "features", "images"])
def test_nothing_is_said_where_features_cannot_tell(missing: str) -> None:
    images = 1 if missing == "images" else 5
    features, labels = smooth(images, 0, FEATURES * images - (1 if missing == "features" else 0))
    layer = last_layer(features, labels, bias=missing != "bias", floor=-1.0, smooth=missing != "smoothness")
    layer = replace(layer, floor=None) if missing == "floor" else layer
    assert independent_images(factored(layer, images)) is None


def test_enough_features_are_enough() -> None:
    features, labels = smooth(5, 0, FEATURES * 5)
    assert independent_images(factored(last_layer(features, labels, floor=-1.0, smooth=True), 5)) is not None


@pytest.mark.parametrize("steps", [0, 3])
def test_it_can_be_stopped(steps: int) -> None:
    asked = itertools.count()
    assert independent_images(factors_of(8, 0)[0], stop=lambda: next(asked) >= steps) is None
    assert next(asked) <= steps + 2, "it went on"


def test_another_seed_starts_elsewhere_and_ends_at_the_same_images() -> None:
    factors, truth, _ = factors_of(5, 3)
    first, second = independent_images(factors), independent_images(factors, seed=1)
    assert first is not None and second is not None and not torch.equal(first, second)
    nearest = [(torch.cdist(found, truth)).argmin(1).tolist() for found in (first, second)]
    assert sorted(nearest[0]) == sorted(nearest[1])
