"""The last layer's equations: residuals, derivatives against autograd, and first guesses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.features.factors import Factors
from deepleak_core.features.layer_equations import LayerEquations, first_guess
from tests.helpers import last_layer, random_labels, relu_features

CLASSES = 9


def equations_of(images: int, seed: int, *, bias: bool = True) -> tuple[LayerEquations, Tensor]:
    """The equations of a random batch under its own labels, and the true coordinates (K, K)."""
    features, labels = relu_features(images, seed), random_labels(images, seed, CLASSES).sort().values
    factors = Factors.of(last_layer(features, labels, classes=CLASSES, bias=bias), images)
    equations = LayerEquations.of(factors, torch.bincount(labels, minlength=CLASSES))
    return equations, features @ equations.basis


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000), st.booleans())
def test_the_truth_leaves_no_residual(images: int, seed: int, bias: bool) -> None:
    equations, truth = equations_of(images, seed, bias=bias)
    assert torch.allclose(equations.basis.T @ equations.basis, torch.eye(images).double())
    assert equations.relative_residual(truth) < 1e-16
    assert equations.misfit(truth, equations.precision(truth)) < 1
    other = truth + 0.1 * truth.abs().mean() * torch.ones_like(truth)
    assert equations.relative_residual(other) > 1e-6
    assert equations.misfit(other, equations.precision(other)) > 1e3


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weighting", ["whitening", "precision"])
def test_derivatives_are_those_of_autograd(weighting: str, bias: bool) -> None:
    equations, truth = equations_of(4, 1, bias=bias)
    m = truth + 0.3 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)).double()
    weights = equations.whitening if weighting == "whitening" else equations.precision(m) * 1e-6
    residual = equations.residuals(m, weights)
    jacobian = torch.autograd.functional.jacobian(lambda x: equations.residuals(x, weights), m)
    jacobian = jacobian.reshape(residual.numel(), m.numel())
    normal = jacobian.T @ jacobian
    cost, gradient, dense = equations.quadratics(weights)(m.view(1, -1), torch.zeros(1))
    torch.testing.assert_close(cost[0], residual.square().sum())
    torch.testing.assert_close(gradient[0], jacobian.T @ residual.flatten())
    torch.testing.assert_close(dense[0], normal)
    here = equations.linearised(m, weights)
    assert here.cost == here.cost_at(m) == pytest.approx(float(cost))
    torch.testing.assert_close(here.gradient.flatten(), gradient[0])
    step = torch.randn(m.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(here.product(step).flatten(), normal @ step.flatten())
    every = torch.arange(4)
    torch.testing.assert_close(here.blocks, normal.view(4, 4, 4, 4)[every, :, every])
    variances = equations.variances(m, weights, dense=True)
    torch.testing.assert_close(variances.flatten(), torch.linalg.pinv(normal).diagonal(), rtol=1e-4, atol=1e-9)
    assert (equations.variances(m, weights, dense=False) <= variances * (1 + 1e-6)).all()


@pytest.mark.parametrize("informed", [True, False])
def test_first_guesses_start_from_class_means(informed: bool) -> None:
    """Images of one class share a mean, around which a guess spreads them; a single image of a class is near it."""
    features = relu_features(5, 0)
    labels = torch.tensor([0, 0, 0, 4, 7])
    factors = Factors.of(last_layer(features, labels, classes=CLASSES), 5)
    equations = LayerEquations.of(factors, torch.bincount(labels, minlength=CLASSES))
    guess = first_guess(equations, torch.Generator().manual_seed(0), informed=informed) @ equations.basis.T
    assert torch.pdist(guess[:3]).min() > 0.1, "images of one class at one point"
    means = torch.stack([features[labels == label].mean(0) for label in labels])
    if informed:
        assert ((guess[3:] - means[3:]).norm(dim=1) < means[3:].norm(dim=1)).all()
        assert torch.nn.functional.cosine_similarity(guess[:3].mean(0), means[0], dim=0) > 0.9
