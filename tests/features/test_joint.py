"""All images at once: the equations against autograd, and searches that end at the truth under the right labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from deepleak_core.features.factors import Factors, random_starts
from deepleak_core.features.joint import (
    FLOOR_WEIGHT,
    LARGEST_MEAN_HEIGHT,
    NEAR_SOLUTION,
    OPEN,
    implied_labels,
    label_equations,
    large_label_equations,
    solve_large,
    solve_together,
)
from tests.helpers import last_layer, random_labels, relu_features

CLASSES = 12


def batch(images: int, seed: int, *, bias: bool = True, floor: float | None = 0.0) -> tuple[Factors, Tensor, Tensor]:
    """Factors, true coordinates (K, K) and labels (K,), ascending, of a random batch."""
    features, labels = relu_features(images, seed), random_labels(images, seed).sort().values
    factors = Factors.of(last_layer(features, labels, bias=bias, floor=floor), images)
    return factors, factors.coordinates(features), labels


def beside(m: Tensor, share: float, seed: int = 0) -> Tensor:
    """Coordinates near m (K, K)."""
    noise = torch.randn(m.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return m + share * m.abs().mean() * noise


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10_000), st.booleans())
def test_the_truth_implies_its_labels(images: int, seed: int, bias: bool) -> None:
    factors, m, labels = batch(images, seed, bias=bias)
    implied = implied_labels(factors, m[None])[0]
    torch.testing.assert_close(implied, one_hot(labels, CLASSES).double(), atol=1e-5, rtol=0)
    for assumed in (labels, torch.full_like(labels, OPEN)):
        bounds = factors.heights if bias else None
        assert label_equations(factors, bounds)(m.view(1, -1), assumed[None])[0] < 1e-9


@pytest.mark.parametrize(
    ("bias", "bounded", "larger"), [(True, True, 10), (True, True, 0), (True, False, 0), (False, False, 0)]
)
@settings(max_examples=5, deadline=None)
@given(images=st.integers(2, 4), seed=st.integers(0, 10_000))
def test_gradients_and_normal_matrices_are_those_of_naive_residuals(
    images: int, seed: int, bias: bool, bounded: bool, larger: int
) -> None:
    factors, m, labels = batch(images, seed, bias=bias)
    bounds = factors.heights if bounded else None
    point = beside(m, 0.3, seed)
    if bounds is not None:
        typical = factors.typical_height
        aims = torch.stack([bounds.mean(0), factors.ones])
        point[0] += torch.linalg.pinv(aims) @ torch.tensor([larger * typical, 0.0]).double()

    def residuals(flat: Tensor) -> Tensor:
        at = flat.view(images, images)
        rows = [(implied_labels(factors, at[None])[0] - one_hot(labels, CLASSES)).flatten()]
        if factors.ones is not None:
            rows.append(at @ factors.ones - 1)
        if bounds is not None:
            heights, limit = at @ bounds.T, LARGEST_MEAN_HEIGHT * typical * at @ factors.ones
            rows.append(FLOOR_WEIGHT / typical * heights.clamp_max(0).flatten())
            rows.append(FLOOR_WEIGHT / typical * (limit - heights.mean(1)).clamp_max(0))
        return torch.cat(rows)

    cost, gradient, normal = label_equations(factors, bounds)(point.view(1, -1), labels[None])
    jacobian = torch.autograd.functional.jacobian(residuals, point.flatten())
    torch.testing.assert_close(cost[0], residuals(point.flatten()).square().sum())
    torch.testing.assert_close(gradient[0], jacobian.T @ residuals(point.flatten()))
    torch.testing.assert_close(normal[0], jacobian.T @ jacobian)


@pytest.mark.parametrize("bias", [True, False])
def test_right_labels_reach_rounding_and_wrong_ones_do_not(bias: bool) -> None:
    factors, m, labels = batch(7, 2, bias=bias)
    start = beside(m, 0.01)
    wrong = labels.clone()
    wrong[0] = (labels[0] + 1) % CLASSES
    ends, costs = solve_together(factors, torch.stack([start, start]), torch.stack([labels, wrong]))
    assert costs[0] < 1e-16
    assert costs[1] > 1e-4
    torch.testing.assert_close(factors.features(ends[0]), factors.features(m), rtol=1e-4, atol=1e-4)


def test_open_labels_settle_on_those_of_the_images_nearby() -> None:
    factors, m, labels = batch(7, 5)
    ends, costs = solve_together(factors, beside(m, 0.05)[None], torch.full((1, 7), OPEN), bounds=factors.heights)
    assert costs[0] < 1e-16
    assert torch.equal(implied_labels(factors, ends)[0].argmax(1), labels)


def test_open_labels_can_be_restricted_to_some_classes() -> None:
    factors, m, labels = batch(4, 3)
    start = m.mean(0) + 0.5 * (m - m.mean(0))
    for only in (int(labels[0]), (int(labels[-1]) + 1) % CLASSES):
        among = torch.arange(CLASSES) == only
        restricted = label_equations(factors, None, among)(start.view(1, -1), torch.full((1, 4), OPEN))
        assumed = label_equations(factors)(start.view(1, -1), torch.full((1, 4), only))
        torch.testing.assert_close(restricted, assumed)
    given = label_equations(factors, None, among)(m.view(1, -1), labels[None])[0]
    assert given < 1e-9, "labels that are given may be of any class"


def test_bounds_lead_to_the_truth_more_often() -> None:
    """Eight images of twelve classes, their labels known: what a floor is worth to the search."""
    solved = {True: 0, False: 0}
    for seed in range(3):
        factors, _, labels = batch(8, seed)
        tried = labels.expand(32, -1)
        for bounded in solved:
            starts = random_starts(factors, tried, torch.Generator().manual_seed(0))
            bounds = factors.heights if bounded else None
            solved[bounded] += int((solve_together(factors, starts, tried, bounds=bounds)[1] < 1e-12).sum())
    assert solved[True] > 2 * solved[False]
    assert solved[True] >= 5


# -------------------------------------------------------------------------------------------------- dozens of images


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_products_gradient_and_blocks_are_those_of_naive_residuals(images: int, seed: int, margin: float) -> None:
    factors, m, _ = batch(images, seed)
    point = beside(m, 0.3, seed)
    ones, bounds = factors.ones, FLOOR_WEIGHT / factors.typical_height * factors.heights
    likeliest = implied_labels(factors, point[None])[0].topk(2, dim=1).values
    counting = likeliest[:, 0] - likeliest[:, 1] >= margin

    def residuals(flat: Tensor) -> Tensor:
        at = flat.view(images, images)
        implied = implied_labels(factors, at[None])[0]
        off = (implied - one_hot(implied.argmax(1), CLASSES))[counting]
        return torch.cat([off.flatten(), at @ ones - 1, (at @ bounds.T).clamp_max(0).flatten()])

    here = large_label_equations(factors, margin)(point)
    naive, jacobian = residuals(point.flatten()), torch.autograd.functional.jacobian(residuals, point.flatten())
    normal = jacobian.T @ jacobian
    assert here.cost == pytest.approx(float(naive.square().sum())) == here.cost_at(point)
    torch.testing.assert_close(here.gradient.flatten(), jacobian.T @ naive)
    step = torch.randn(point.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(here.product(step).flatten(), normal @ step.flatten())
    every = torch.arange(images)
    torch.testing.assert_close(here.blocks, normal.view(images, images, images, images)[every, :, every])


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_large_batches_move_to_where_labels_are_one_hot(seed: int) -> None:
    factors, m, labels = batch(8, seed)
    start = beside(m, 0.02)
    end, cost = solve_large(factors, start, enough=1e-9)
    assert cost < 1e-9
    assert torch.equal(implied_labels(factors, end[None])[0].argmax(1), labels)
    sooner, left = solve_large(factors, start)
    assert cost < left < NEAR_SOLUTION
    stopped, _ = solve_large(factors, start, stop=lambda: True)
    assert torch.equal(stopped, start)
    assert not torch.equal(sooner, start)


@pytest.mark.parametrize(("images", "seed"), [(6, 1), (8, 0)])
def test_a_label_fixed_too_early_spoils_a_batch_that_a_margin_solves(images: int, seed: int) -> None:
    """One image starts half way to another, where its implied label is wrong, and not clear."""
    factors, m, labels = batch(images, seed)
    start = beside(m, 0.1)
    start[0] = (m[0] + m[1]) / 2
    _, without_margin = solve_large(factors, start, margin=0.0, enough=1e-9)
    end, with_margin = solve_large(factors, start, enough=1e-9)
    assert with_margin < 1e-9
    assert with_margin <= without_margin
    assert torch.equal(implied_labels(factors, end[None])[0].argmax(1), labels)
