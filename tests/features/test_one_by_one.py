"""Images found one by one in the last layer's gradient, without labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.features.factors import Factors
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.one_by_one import (
    FOUND_RATIO,
    can_be_found_one_by_one,
    find_images,
    noise_ratio,
    single_image_equations,
)
from tests.helpers import last_layer, random_labels, relu_features

CLASSES, DIMENSION = 12, 40


def batch(
    images: int, seed: int, *, bias: bool = True, dtype: torch.dtype = torch.float64
) -> tuple[Factors, Tensor, Tensor]:
    """Factors, features (K, D) and labels (K,)."""
    features, labels = relu_features(images, seed, DIMENSION, dtype), random_labels(images, seed)
    return Factors.of(last_layer(features, labels, bias=bias), images), features, labels


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000), st.booleans())
def test_the_truth_satisfies_its_equations_and_wrong_labels_do_not(images: int, seed: int, bias: bool) -> None:
    factors, features, labels = batch(images, seed, bias=bias)
    m = factors.coordinates(features)
    assert single_image_equations(factors)(m, labels)[0].max() < 1e-12
    assert single_image_equations(factors)(m, (labels + 1) % CLASSES)[0].min() > 1e-4


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(0, 10_000), st.booleans())
def test_gradients_are_those_of_autograd(images: int, seed: int, bias: bool) -> None:
    factors, _, _ = batch(images, seed, bias=bias)
    generator = torch.Generator().manual_seed(seed)
    assumed = torch.randint(CLASSES, (3,), generator=generator)
    points = torch.randn(3, images, generator=generator, dtype=torch.float64).requires_grad_()
    cost, gradient, normal = single_image_equations(factors)(points, assumed)
    by_autograd = torch.autograd.grad(cost.sum(), points)[0] / 2
    torch.testing.assert_close(gradient, by_autograd)
    assert (torch.linalg.eigvalsh(normal) > -1e-9).all()


def assert_found_exactly(found: Tensor, named: Tensor, features: Tensor, labels: Tensor, error: float) -> None:
    """Every image found is one of the batch, with its own label, and no image was found twice."""
    distance = torch.cdist(found, features.double()) / features.double().norm(dim=1)
    nearest = distance.argmin(1)
    assert (distance.amin(1) < error).all(), "an image that is not there"
    assert torch.equal(named, labels[nearest]), "the wrong label"
    assert len(set(nearest.tolist())) == len(nearest), "an image twice"


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000), st.booleans(), st.booleans())
def test_what_is_found_is_there(images: int, seed: int, bias: bool, double: bool) -> None:
    factors, features, labels = batch(images, seed, bias=bias, dtype=torch.float64 if double else torch.float32)
    found, named = find_images(factors, range(CLASSES), seed=seed)
    assert_found_exactly(found, named, features, labels, 1e-3)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("images", [1, 2, 4, 5])
def test_most_often_all_are_found(images: int, bias: bool, double: bool) -> None:
    complete = 0
    for seed in range(4):
        factors, _, _ = batch(images, seed, bias=bias, dtype=torch.float64 if double else torch.float32)
        complete += len(find_images(factors, range(CLASSES), seed=seed)[0]) == images
    assert complete >= 3


def test_only_the_given_classes_are_searched() -> None:
    factors = Factors.of(last_layer(relu_features(3, 1), torch.tensor([2, 5, 5])), 3)
    assert find_images(factors, [2, 9])[1].tolist() == [2]
    found, named = find_images(factors, [0, 1])
    assert found.shape == (0, DIMENSION) and named.tolist() == []


def test_a_search_that_is_stopped_finds_nothing() -> None:
    found, named = find_images(batch(3, 1)[0], range(CLASSES), stop=lambda: True)
    assert len(found) == len(named) == 0


def test_there_is_no_image_in_noise() -> None:
    layer = last_layer(relu_features(3, 0), random_labels(3, 0))
    noise = torch.randn(CLASSES, DIMENSION, generator=torch.Generator().manual_seed(0)).double()
    noisy = replace(layer, weight_gradient=noise, bias_gradient=torch.zeros(CLASSES).double())
    assert len(find_images(Factors.of(noisy, 3), range(CLASSES))[0]) == 0


@given(st.integers(2, 40), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_there_must_be_more_equations_than_unknowns(classes: int, dimension: int, images: int, bias: bool) -> None:
    """An image has K coordinates; C - K equations say that its signal is in the span, one more how long it is."""
    weight = torch.zeros(classes, dimension)
    offset = torch.zeros(classes) if bias else None
    layer = LastLayer(weight=weight, bias=offset, weight_gradient=weight, bias_gradient=offset)
    # Signals sum to zero over the classes, as those that span U do: one of the equations is redundant.
    equations = (classes - images) - 1 + 1 + (1 if bias else 0)
    assert can_be_found_one_by_one(layer, images) == (images < min(equations, dimension))


def test_the_noise_ratio_is_small_at_the_truth_only() -> None:
    factors, features, labels = batch(4, 3, dtype=torch.float32)
    m = factors.coordinates(features.double())
    assert noise_ratio(factors, m, labels).max() < FOUND_RATIO
    assert noise_ratio(factors, m, (labels + 1) % CLASSES).min() > 1e3
    assert noise_ratio(factors, 1.01 * m, labels).min() > 1e3
