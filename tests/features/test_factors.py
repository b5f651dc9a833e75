"""Low-rank factors of the last layer's gradient: against the features and signals it is made of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.errors import CannotSeparate
from deepleak_core.features import factors as module
from deepleak_core.features.factors import Factors, random_starts, softmax_slopes, truncated_svd
from deepleak_core.features.last_layer import SummedGradient
from tests.helpers import last_layer, random_labels, relu_features

CLASSES = 12


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000), st.booleans())
def test_features_and_signals_of_a_gradient_are_biorthogonal(images: int, seed: int, bias: bool) -> None:
    features, labels = relu_features(images, seed), random_labels(images, seed)
    layer = last_layer(features, labels, bias=bias)
    factors = Factors.of(layer, images)
    m = factors.coordinates(features)
    torch.testing.assert_close(factors.features(m), features, msg="the gradient's rows do not span the features")
    if factors.ones is not None:
        torch.testing.assert_close(m @ factors.ones, torch.ones(images).double())
    logits = features @ layer.weight.T + (0 if layer.bias is None else layer.bias)
    signals = logits.softmax(1) - torch.nn.functional.one_hot(labels, CLASSES)
    torch.testing.assert_close(factors.probabilities(m), logits.softmax(1))
    torch.testing.assert_close(factors.signals(m, labels)[1], signals)
    c = signals @ factors.left
    torch.testing.assert_close(c @ factors.left.T, signals)
    torch.testing.assert_close(m @ (c / factors.singular_values).T, torch.eye(images).double(), atol=1e-6, rtol=0)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000), st.booleans(), st.data())
def test_what_is_left_without_some_images_is_the_gradient_of_the_others(
    images: int, seed: int, bias: bool, data: st.DataObject
) -> None:
    known = data.draw(st.integers(1, images - 1))
    features, labels = relu_features(images, seed), random_labels(images, seed)
    factors = Factors.of(last_layer(features, labels, bias=bias), images)
    others = factors.without(factors.coordinates(features)[:known], labels[:known])
    assert others.images == images - known
    m = others.coordinates(features[known:])
    torch.testing.assert_close(others.features(m), features[known:], atol=1e-6, rtol=1e-5)
    c = others.signals(m, labels[known:])[1] @ others.left
    identity = torch.eye(images - known).double()
    torch.testing.assert_close(m @ (c / others.singular_values).T, identity, atol=1e-5, rtol=0)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_embeddings_are_means_of_all_images_weighted_by_their_signals(images: int, seed: int) -> None:
    features, labels = relu_features(images, seed), random_labels(images, seed)
    layer = last_layer(features, labels)
    signals = (features @ layer.weight.T + layer.bias).softmax(1) - torch.nn.functional.one_hot(labels, CLASSES)
    expected = signals.T @ features / signals.sum(0)[:, None]
    factors = Factors.of(layer, images)
    torch.testing.assert_close(factors.features(factors.embeddings()), expected, rtol=1e-4, atol=1e-4)


def test_the_noise_is_about_that_of_float32() -> None:
    for seed in range(3):
        features = relu_features(4, seed, 200)
        exact = last_layer(features, random_labels(4, seed))
        rounded = last_layer(features.float(), random_labels(4, seed))
        # Equal layers but for rounding: the difference of their gradients is the noise.
        noise = 4 * (exact.weight_gradient - rounded.weight_gradient).square().mean().sqrt()
        assert 0.1 < Factors.of(rounded, 4).noise / float(noise) < 10


@pytest.mark.parametrize("small", [1e-5, 1e-4, 1e-3])
def test_a_faint_image_is_not_lost_in_the_rounding_of_large_rows(small: float) -> None:
    """Rows of classes that hardly occur are small, and as exact as others."""
    generator = torch.Generator().manual_seed(0)
    signals = torch.rand(CLASSES, 3, generator=generator, dtype=torch.float64)
    signals[:, 2] *= 1e-6
    signals[CLASSES // 2 :, :2] *= small
    features = torch.rand(3, 40, generator=generator, dtype=torch.float64)
    rounded = (signals @ features).float()
    layer = module.LastLayer(
        weight=torch.zeros_like(rounded), bias=None, weight_gradient=rounded / 3, bias_gradient=None
    )
    basis = Factors.of(layer, 3).basis
    plain = torch.linalg.svd(rounded.double(), full_matrices=False)[2][:3].T

    def missed(spanned: Tensor) -> float:
        return float((features - features @ spanned @ spanned.T).norm() / features.norm())

    assert missed(basis) < small / 10 < 1e-3 < missed(plain)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(200, 400, 5), (400, 200, 3), (150, 150, 1)])
def test_a_randomised_svd_is_as_good_as_a_full_one(
    rows: int, columns: int, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(rank)
    left = torch.linalg.qr(torch.randn(rows, rank, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(columns, rank, generator=generator, dtype=torch.float64))[0]
    noise = 1e-6 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    matrix = (left * torch.logspace(0, -3, rank, dtype=torch.float64)) @ right.T + noise
    given = SummedGradient(weight_gradient=matrix, bias_gradient=None, scale=torch.ones(rows, dtype=torch.float64))
    full = truncated_svd(given, rank)
    monkeypatch.setattr(module, "FULL_SVD_OPERATIONS", 0)
    sketched = truncated_svd(given, rank)
    assert len(sketched[1]) < min(rows, columns), "a full SVD after all"
    torch.testing.assert_close(sketched[1][:rank], full[1][:rank], rtol=1e-6, atol=0)
    product, reference = ((u * s[:rank]) @ vt for u, s, vt, _ in (sketched, full))
    torch.testing.assert_close(product, reference, rtol=0, atol=1e-8)
    torch.testing.assert_close(sketched[3], full[3], rtol=1e-3, atol=0)
    assert 0.3 < float(sketched[1][rank] / full[1][rank]) < 1.01, "the gap to noise shows as well"


@pytest.mark.parametrize(("classes", "bias", "most"), [(5, True, 4), (5, False, 3)])
def test_more_images_than_the_layer_can_hold_are_refused(classes: int, bias: bool, most: int) -> None:
    for images in (most, most + 1):
        layer = last_layer(relu_features(images, 0), torch.arange(images) % classes, classes=classes, bias=bias)
        if images > most:
            with pytest.raises(CannotSeparate, match=f"{images} images share a last layer of 5 classes.*{most} can be"):
                Factors.of(layer, images)
        else:
            assert Factors.of(layer, images).images == most


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_softmax_slopes_are_those_of_autograd(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logit_map = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    m = torch.randn(3, generator=generator, dtype=torch.float64)
    by_autograd = torch.autograd.functional.jacobian(lambda x: torch.softmax(logit_map @ x, 0), m)
    torch.testing.assert_close(softmax_slopes(torch.softmax(logit_map @ m, 0), logit_map), by_autograd)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("images", [1, 3])
def test_random_starts_are_reproducible_and_differ(images: int, bias: bool) -> None:
    factors = Factors.of(last_layer(relu_features(images, 0), random_labels(images, 0), bias=bias), images)
    labels = torch.tensor([[0] * images, [1] * images] * 50)
    starts = random_starts(factors, labels, torch.Generator().manual_seed(0))
    assert starts.shape == (100, images, images)
    assert torch.isfinite(starts).all()
    assert torch.equal(starts, random_starts(factors, labels, torch.Generator().manual_seed(0)))
    if bias and images == 1:  # the bias determines the length of the only feature vector
        torch.testing.assert_close(starts * factors.ones, torch.ones(100, 1, 1).double())
        return
    assert len(torch.unique(starts[:, 0, 0])) == 100
    if bias:  # those that are not near embeddings end in 1, as features do
        torch.testing.assert_close(starts[1::2] @ factors.ones, torch.ones(50, images).double())
