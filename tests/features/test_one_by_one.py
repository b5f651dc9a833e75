"""Images found in the last layer's gradient without labels: equations, searches, and the solver under both."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from torch import Tensor
from torch.func import jacrev

from deepleak_core.errors import CannotSeparate
from deepleak_core.features.last_layer import LastLayer, summed_gradient
from deepleak_core.features.one_by_one import (
    NOISE,
    Factors,
    can_be_found_one_by_one,
    conjugate_gradients,
    find_images,
    levenberg_marquardt,
    noise_ratio,
    single_equations,
    squared,
    starts_for,
    without_rounding,
)

CLASSES, DIMENSION = 12, 40


def last_layer(
    features: Tensor,
    labels: Tensor,
    *,
    classes: int = CLASSES,
    bias: bool = True,
    floor: float | None = None,
    smooth: bool = False,
) -> LastLayer:
    """A random last layer and its mean gradient, by autograd in the precision of the features."""
    torch.manual_seed(len(labels))
    layer = torch.nn.Linear(features.shape[1], classes, bias=bias).to(features.dtype)
    torch.nn.functional.cross_entropy(layer(features), labels).backward()
    return LastLayer(
        weight=layer.weight.detach(),
        bias=layer.bias.detach() if bias else None,
        weight_gradient=layer.weight.grad,
        bias_gradient=layer.bias.grad if bias else None,
        floor=floor,
        smooth=smooth,
    )


def drawn(images: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Features (K, D) as after ReLU, which share a part, and labels (K,) that may repeat."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(DIMENSION, generator=generator)
    features = (common + torch.randn(images, DIMENSION, generator=generator)).relu()
    return features.to(dtype), torch.randint(CLASSES, (images,), generator=generator)


def factored(layer: LastLayer, images: int) -> Factors:
    return Factors.of(layer, summed_gradient(layer, images), images)


# -------------------------------------------------------------------------------------------------- the equations


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000), st.booleans())
def test_features_and_signals_of_a_real_gradient_are_biorthogonal(images: int, seed: int, bias: bool) -> None:
    features, labels = drawn(images, seed)
    layer = last_layer(features, labels, bias=bias)
    factors = factored(layer, images)
    m = factors.coordinates(features.double())
    torch.testing.assert_close(m @ factors.basis.T, features, msg="the gradient's rows do not span the features")
    if factors.ones is not None:
        torch.testing.assert_close(m @ factors.ones, torch.ones(images).double())
    logits = features @ layer.weight.T + (0 if layer.bias is None else layer.bias)
    signals = logits.softmax(1) - torch.nn.functional.one_hot(labels, CLASSES)
    torch.testing.assert_close(factors.signals(m, labels)[1], signals)
    c = signals @ factors.left
    torch.testing.assert_close(c @ factors.left.T, signals)
    torch.testing.assert_close(m @ (c / factors.singular_values).T, torch.eye(images).double(), atol=1e-6, rtol=0)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000), st.booleans())
def test_the_truth_satisfies_its_equations(images: int, seed: int, bias: bool) -> None:
    features, labels = drawn(images, seed)
    factors = factored(last_layer(features, labels, bias=bias), images)
    m = factors.coordinates(features.double())
    assert single_equations(factors)(m, labels)[0].abs().max() < 1e-6
    other = (labels + 1) % CLASSES
    assert single_equations(factors)(m, other)[0].norm(dim=1).min() > 1e-2, "wrong labels satisfy them as well"


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(0, 10_000), st.booleans())
def test_slopes_are_the_derivatives_of_residuals(images: int, seed: int, bias: bool) -> None:
    features, labels = drawn(images, seed)
    factors = factored(last_layer(features, labels, bias=bias), images)
    generator = torch.Generator().manual_seed(seed)
    assumed = torch.randint(CLASSES, (3,), generator=generator)
    points = torch.randn(3, images, generator=generator, dtype=torch.float64)
    equations = single_equations(factors)
    residuals, slopes = equations(points, assumed)
    for i in range(3):
        by_autograd = jacrev(lambda x, i=i: equations(x[None], assumed[i : i + 1])[0][0])(points[i])
        torch.testing.assert_close(slopes[i], by_autograd)
        torch.testing.assert_close(residuals[i], equations(points[i : i + 1], assumed[i : i + 1])[0][0])


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_embeddings_are_means_of_all_images_weighted_by_their_signals(images: int, seed: int) -> None:
    features, labels = drawn(images, seed)
    layer = last_layer(features, labels)
    signals = (features @ layer.weight.T + layer.bias).softmax(1) - torch.nn.functional.one_hot(labels, CLASSES)
    expected = signals.T @ features / signals.sum(0)[:, None]
    factors = factored(layer, images)
    torch.testing.assert_close(factors.embeddings() @ factors.basis.T, expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------ finding images


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
    features, labels = drawn(images, seed, torch.float64 if double else torch.float32)
    layer = last_layer(features, labels, bias=bias)
    found, named = find_images(layer, images, range(CLASSES), seed=seed)
    assert_found_exactly(found, named, features, labels, 1e-3)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("images", [1, 2, 4, 5])
def test_most_often_all_are_found(images: int, bias: bool, double: bool) -> None:
    complete = 0
    for seed in range(4):
        features, labels = drawn(images, seed, torch.float64 if double else torch.float32)
        found, _ = find_images(last_layer(features, labels, bias=bias), images, range(CLASSES), seed=seed)
        complete += len(found) == images
    assert complete >= 3


def test_only_classes_asked_for_are_looked_for() -> None:
    features, _ = drawn(3, 1)
    labels = torch.tensor([2, 5, 5])
    layer = last_layer(features, labels)
    _, named = find_images(layer, 3, [2, 9])
    assert named.tolist() == [2]
    found, named = find_images(layer, 3, [0, 1])
    assert found.shape == (0, DIMENSION) and named.tolist() == []


def test_a_search_that_is_stopped_finds_nothing() -> None:
    features, labels = drawn(3, 1)
    found, named = find_images(last_layer(features, labels), 3, range(CLASSES), stop=lambda: True)
    assert len(found) == len(named) == 0


def test_no_image_is_in_noise() -> None:
    layer = last_layer(*drawn(3, 0))
    noise = torch.randn(CLASSES, DIMENSION, generator=torch.Generator().manual_seed(0)).double()
    noisy = replace(layer, weight_gradient=noise, bias_gradient=torch.zeros(CLASSES).double())
    found, _ = find_images(noisy, 3, range(CLASSES))
    assert len(found) == 0


@pytest.mark.parametrize("small", [1e-5, 1e-4, 1e-3])
def test_a_faint_image_is_not_lost_in_the_rounding_of_large_rows(small: float) -> None:
    generator = torch.Generator().manual_seed(0)
    signals = torch.rand(CLASSES, 3, generator=generator, dtype=torch.float64)
    signals[:, 2] *= 1e-6
    signals[CLASSES // 2 :, :2] *= small
    features = torch.rand(3, DIMENSION, generator=generator, dtype=torch.float64)
    rounded = (signals @ features).float().double()
    u, s, vt, _ = without_rounding(rounded, 3)
    nearest = (u * s) @ vt

    def missed(gradient: Tensor) -> float:
        """How far the features are from being spanned by the gradient's first three directions."""
        basis = torch.linalg.svd(gradient, full_matrices=False)[2][:3]
        return float((features - features @ basis.T @ basis).norm() / features.norm())

    assert missed(nearest) < small / 10 < 1e-3 < missed(rounded)
    assert int(torch.linalg.matrix_rank(nearest, rtol=1e-12)) == 3


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_gradient_without_features_is_refused(value: float) -> None:
    layer = last_layer(*drawn(2, 0))
    empty = replace(
        layer,
        weight_gradient=torch.full_like(layer.weight_gradient, value),
        bias_gradient=torch.full_like(layer.bias_gradient, value),
    )
    with pytest.raises(CannotSeparate, match="zero or not finite"):
        find_images(empty, 2, range(CLASSES))


@given(st.integers(2, 40), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_one_by_one_there_must_be_more_equations_than_unknowns(
    classes: int, dimension: int, images: int, bias: bool
) -> None:
    """An image has K coordinates; C - K equations say that its signal is in the span, one more how long it is."""
    weight = torch.zeros(classes, dimension)
    offset = torch.zeros(classes) if bias else None
    layer = LastLayer(weight=weight, bias=offset, weight_gradient=weight, bias_gradient=offset)
    # Signals sum to zero over the classes, as those that span U do: one of the equations says nothing.
    equations = (classes - images) - 1 + 1 + (1 if bias else 0)
    assert can_be_found_one_by_one(layer, images) == (images < min(equations, dimension))


def test_noise_ratio_tells_the_truth_from_all_else() -> None:
    features, labels = drawn(4, 3, torch.float32)
    factors = factored(last_layer(features, labels), 4)
    m = factors.coordinates(features.double())
    assert noise_ratio(factors, m, labels).max() < NOISE
    assert noise_ratio(factors, m, (labels + 1) % CLASSES).min() > 1e3
    assert noise_ratio(factors, 1.01 * m, labels).min() > 1e3


# --------------------------------------------------------------------------------------------------------- starts


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("images", [1, 3])
def test_starts_come_from_embeddings_and_from_chance(images: int, bias: bool) -> None:
    factors = factored(last_layer(*drawn(images, 0), bias=bias), images)
    labels = torch.tensor([[0] * images, [1] * images] * 50)
    starts = starts_for(factors, labels, torch.Generator().manual_seed(0))
    assert starts.shape == (100, images, images) and torch.isfinite(starts).all()
    assert torch.equal(starts, starts_for(factors, labels, torch.Generator().manual_seed(0)))
    if bias and images == 1:  # the bias tells how long the only feature vector is
        torch.testing.assert_close(starts * factors.ones, torch.ones(100, 1, 1).double())
        return
    assert len(torch.unique(starts[:, 0, 0])) == 100, "all starts differ"
    if bias:  # those from scratch end in 1 as features do
        torch.testing.assert_close(starts[1::2] @ factors.ones, torch.ones(50, images).double())


# ----------------------------------------------------------------------------------------------------- the solver


def curves(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Small nonlinear systems with residuals of their own for each label: tanh(A_l x) - b_l, (T, 6) for (T, 3)."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 6, 3, generator=generator, dtype=torch.float64)[labels]
    wanted = torch.randn(5, 6, generator=generator, dtype=torch.float64)[labels] / 2
    reached = torch.tanh((maps @ points[:, :, None])[:, :, 0])
    return reached - wanted, (1 - reached.square())[:, :, None] * maps


def test_the_solver_finds_what_scipy_finds() -> None:
    labels = torch.arange(5)
    points = torch.zeros(5, 3, dtype=torch.float64)
    ends, costs = levenberg_marquardt(squared(curves), points, labels, iterations=200)
    assert not points.any(), "the starts were written to"
    for i in range(5):

        def residuals(x: np.ndarray, i: int = i) -> np.ndarray:
            return curves(torch.tensor(x)[None], labels[i : i + 1])[0][0].numpy()

        reference = least_squares(residuals, np.zeros(3), xtol=1e-12, ftol=1e-12)
        np.testing.assert_allclose(float(costs[i]), 2 * reference.cost, rtol=1e-5)
        np.testing.assert_allclose(ends[i].numpy(), reference.x, atol=1e-2)
        torch.testing.assert_close(costs[i], curves(ends[i : i + 1], labels[i : i + 1])[0].square().sum())


def test_problems_do_not_see_each_other() -> None:
    labels = torch.arange(5)
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together, _ = levenberg_marquardt(squared(curves), start, labels, iterations=50)
    for i in range(5):
        alone, _ = levenberg_marquardt(squared(curves), start[i : i + 1], labels[i : i + 1], iterations=50)
        torch.testing.assert_close(alone[0], together[i])


def test_problems_that_reached_enough_are_not_asked_again() -> None:
    asked: list[int] = []

    def equations(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(points))
        return points - labels[:, None], torch.eye(2).double().expand(len(points), 2, 2)

    start = torch.tensor([[0.0, 0.0], [50.0, -50.0]], dtype=torch.float64)
    ends, costs = levenberg_marquardt(squared(equations), start, torch.tensor([0, 1]), iterations=50, enough=1e-12)
    assert asked[0] == 2 and asked[-1] == 1 and len(asked) < 20
    torch.testing.assert_close(ends, torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double(), atol=1e-5, rtol=0)
    assert (costs <= 1e-12).all()


def test_more_patience_never_costs() -> None:
    labels = torch.arange(5)
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    costs = [levenberg_marquardt(squared(curves), start, labels, iterations=n)[1] for n in (1, 2, 4, 8, 16)]
    assert all((after <= before).all() for before, after in itertools.pairwise(costs))


def test_a_start_of_no_number_does_not_pass_for_a_solution() -> None:
    points = torch.tensor([[float("nan")] * 3, [0.0] * 3], dtype=torch.float64)
    _, costs = levenberg_marquardt(squared(curves), points, torch.tensor([0, 1]), iterations=20)
    assert costs[0] == torch.inf and torch.isfinite(costs[1])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_conjugate_gradients_take_the_step_of_the_whole_normal_matrix(images: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    slopes = torch.randn(4 * images**2, images**2, generator=generator, dtype=torch.float64)
    normal, gradient = slopes.T @ slopes, torch.randn(images, images, generator=generator, dtype=torch.float64)
    damping = torch.rand(images, images, generator=generator, dtype=torch.float64)
    every = torch.arange(images)
    blocks = normal.view(images, images, images, images)[every, :, every]
    asked = []

    def curved(step: Tensor) -> Tensor:
        asked.append(step)
        return (normal @ step.flatten()).view_as(step)

    step = conjugate_gradients(curved, gradient, blocks, damping, most=500, accurate=1e-20)
    whole = torch.linalg.solve(normal + torch.diag(damping.flatten()), -gradient.flatten())
    torch.testing.assert_close(step.flatten(), whole, rtol=1e-6, atol=1e-9)
    asked.clear()
    conjugate_gradients(curved, gradient, blocks, damping, most=3, accurate=0.0)
    assert len(asked) == 3
