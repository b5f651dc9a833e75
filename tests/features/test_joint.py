"""All images at once: the equations against autograd, and searches that end at the truth under the right labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from deepleak_core.features.joint import (
    BRIGHTEST,
    NEAR,
    OPEN,
    WALL_WEIGHT,
    _Reading,
    label_equations,
    read_labels,
    solve_for_many,
    solve_together,
)
from deepleak_core.features.one_by_one import Factors, can_be_found_one_by_one, starts_for
from tests.features.test_one_by_one import CLASSES, drawn, factored, last_layer


def batch(images: int, seed: int, *, bias: bool = True, floor: float | None = 0.0) -> tuple[Factors, Tensor, Tensor]:
    """Factors, true coordinates (K, K) and labels (K,), ascending, of a random batch."""
    features, labels = drawn(images, seed)
    order = labels.argsort(stable=True)
    factors = factored(last_layer(features[order], labels[order], bias=bias, floor=floor), images)
    return factors, factors.coordinates(features[order].double()), labels[order]


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10_000), st.booleans())
def test_the_truth_reads_as_its_labels(images: int, seed: int, bias: bool) -> None:
    factors, m, labels = batch(images, seed, bias=bias)
    read = read_labels(factors, m[None])[0]
    torch.testing.assert_close(read, one_hot(labels, CLASSES).double(), atol=1e-5, rtol=0)
    for assumed in (labels, torch.full_like(labels, OPEN)):
        walls = factors.heights if bias else None
        assert label_equations(factors, walls)(m.view(1, -1), assumed[None])[0] < 1e-9


@pytest.mark.parametrize(
    ("bias", "walled", "brighter"), [(True, True, 10), (True, True, 0), (True, False, 0), (False, False, 0)]
)
@settings(max_examples=5, deadline=None)
@given(images=st.integers(2, 4), seed=st.integers(0, 10_000))
def test_gradients_and_normal_matrices_are_those_of_naive_residuals(
    images: int, seed: int, bias: bool, walled: bool, brighter: int
) -> None:
    factors, m, labels = batch(images, seed, bias=bias)
    walls = factors.heights if walled else None
    generator = torch.Generator().manual_seed(seed)
    point = m + 0.3 * m.abs().mean() * torch.randn(m.shape, generator=generator, dtype=torch.float64)
    if walls is not None:
        typical = (walls @ factors.ones).abs().mean() / factors.ones.square().sum()
        aims = torch.stack([walls.mean(0), factors.ones])
        point[0] += torch.linalg.pinv(aims) @ torch.tensor([brighter * typical, 0.0]).double()

    def residuals(flat: Tensor) -> Tensor:
        at = flat.view(images, images)
        rows = [(read_labels(factors, at[None])[0] - one_hot(labels, CLASSES)).flatten()]
        if factors.ones is not None:
            rows.append(at @ factors.ones - 1)
        if walls is not None:
            heights, brightest = at @ walls.T, BRIGHTEST * typical * at @ factors.ones
            rows.append(WALL_WEIGHT / typical * heights.clamp_max(0).flatten())
            rows.append(WALL_WEIGHT / typical * (brightest - heights.mean(1)).clamp_max(0))
        return torch.cat(rows)

    cost, gradient, normal = label_equations(factors, walls)(point.view(1, -1), labels[None])
    slopes = torch.autograd.functional.jacobian(residuals, point.flatten())
    torch.testing.assert_close(cost[0], residuals(point.flatten()).square().sum())
    torch.testing.assert_close(gradient[0], slopes.T @ residuals(point.flatten()))
    torch.testing.assert_close(normal[0], slopes.T @ slopes)


@pytest.mark.parametrize("bias", [True, False])
def test_right_labels_reach_noise_and_wrong_ones_do_not(bias: bool) -> None:
    """Seven images of twelve classes: too many to be found one by one."""
    factors, m, labels = batch(7, 2, bias=bias)
    assert not can_be_found_one_by_one(last_layer(*drawn(7, 2), bias=bias), 7)
    start = m + 0.01 * m.abs().mean() * torch.randn(m.shape, generator=torch.Generator().manual_seed(0)).double()
    wrong = labels.clone()
    wrong[0] = (labels[0] + 1) % CLASSES
    ends, costs = solve_together(factors, torch.stack([start, start]), torch.stack([labels, wrong]))
    assert costs[0] < 1e-16 and costs[1] > 1e-4
    torch.testing.assert_close(ends[0] @ factors.basis.T, m @ factors.basis.T, rtol=1e-4, atol=1e-4)


def test_open_labels_settle_on_those_of_the_images_nearby() -> None:
    factors, m, labels = batch(7, 5)
    start = m + 0.05 * m.abs().mean() * torch.randn(m.shape, generator=torch.Generator().manual_seed(0)).double()
    ends, costs = solve_together(factors, start[None], torch.full((1, 7), OPEN), walls=factors.heights)
    assert costs[0] < 1e-16
    assert torch.equal(read_labels(factors, ends)[0].argmax(1), labels)


def test_open_labels_are_only_of_the_classes_that_they_may_be_of() -> None:
    factors, m, labels = batch(4, 3)
    start = m.mean(0) + 0.5 * (m - m.mean(0))
    for only in (int(labels[0]), (int(labels[-1]) + 1) % CLASSES):
        among = torch.arange(CLASSES) == only
        restricted = label_equations(factors, None, among)(start.view(1, -1), torch.full((1, 4), OPEN))
        assumed = label_equations(factors)(start.view(1, -1), torch.full((1, 4), only))
        torch.testing.assert_close(restricted, assumed)
    given = label_equations(factors, None, among)(m.view(1, -1), labels[None])[0]
    assert given < 1e-9, "labels that are given may be of any class"


def test_from_scratch_walls_lead_to_the_truth_more_often() -> None:
    """Eight images of twelve classes, their labels known: what a floor is worth to the search."""
    solved = {True: 0, False: 0}
    for seed in range(3):
        factors, _, labels = batch(8, seed)
        tried = labels.expand(32, -1)
        for walled in solved:
            starts = starts_for(factors, tried, torch.Generator().manual_seed(0))
            walls = factors.heights if walled else None
            solved[walled] += int((solve_together(factors, starts, tried, walls=walls)[1] < 1e-12).sum())
    assert solved[True] > 2 * solved[False]
    assert solved[True] >= 5


# -------------------------------------------------------------------------------------------------- dozens of images


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10_000))
def test_products_gradient_and_blocks_are_those_of_naive_residuals(images: int, seed: int) -> None:
    factors, m, _ = batch(images, seed)
    heights, ones = factors.heights, factors.ones
    assert heights is not None and ones is not None
    generator = torch.Generator().manual_seed(seed)
    point = m + 0.3 * m.abs().mean() * torch.randn(m.shape, generator=generator, dtype=torch.float64)
    counting = torch.rand(images, generator=generator) < 0.7
    walls = WALL_WEIGHT * ones.square().sum() / (heights @ ones).abs().mean() * heights

    def residuals(flat: Tensor) -> Tensor:
        at = flat.view(images, images)
        read = read_labels(factors, at[None])[0]
        off = (read - one_hot(read.argmax(1), CLASSES))[counting]
        return torch.cat([off.flatten(), at @ ones - 1, (at @ walls.T).clamp_max(0).flatten()])

    here = _Reading.of(factors, walls, ones, point)
    curved, gradient, blocks = here.linearised(factors, walls, ones, counting)
    naive, slopes = residuals(point.flatten()), torch.autograd.functional.jacobian(residuals, point.flatten())
    normal = slopes.T @ slopes
    assert here.cost(counting) == pytest.approx(float(naive.square().sum()))
    torch.testing.assert_close(gradient.flatten(), slopes.T @ naive)
    step = torch.randn(point.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(curved(step).flatten(), normal @ step.flatten())
    every = torch.arange(images)
    torch.testing.assert_close(blocks, normal.view(images, images, images, images)[every, :, every])


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_many_images_move_to_where_their_labels_are_read(seed: int) -> None:
    factors, m, labels = batch(8, seed)
    start = m + 0.02 * m.abs().mean() * torch.randn(m.shape, generator=torch.Generator().manual_seed(0)).double()
    end, cost = solve_for_many(factors, start, enough=1e-9)
    assert cost < 1e-9
    assert torch.equal(read_labels(factors, end[None])[0].argmax(1), labels)
    sooner, left = solve_for_many(factors, start)
    assert cost < left < NEAR
    stopped, _ = solve_for_many(factors, start, stop=lambda: True)
    assert torch.equal(stopped, start) and not torch.equal(sooner, start)


@pytest.mark.parametrize(("images", "seed"), [(6, 1), (8, 0)])
def test_a_label_believed_too_early_spoils_a_batch_that_patience_solves(images: int, seed: int) -> None:
    """One image starts half way to another, where its label reads wrongly, and not clearly."""
    factors, m, labels = batch(images, seed)
    start = m + 0.1 * m.abs().mean() * torch.randn(m.shape, generator=torch.Generator().manual_seed(0)).double()
    start[0] = (m[0] + m[1]) / 2
    assert not torch.equal(read_labels(factors, start[None])[0].argmax(1), labels)
    _, hasty = solve_for_many(factors, start, margin=0.0, enough=1e-9)
    end, patient = solve_for_many(factors, start, enough=1e-9)
    assert hasty > 0.1 and patient < 1e-9
    assert torch.equal(read_labels(factors, end[None])[0].argmax(1), labels)
