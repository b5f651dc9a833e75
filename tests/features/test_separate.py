"""The last layer's gradient taken apart: exact features, proven counts, typed refusals."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from deepleak_core.attack.exact import separate_features
from deepleak_core.data.batches import load_batch
from deepleak_core.errors import CannotSeparate, NotSeparated
from deepleak_core.features import separate as disaggregation
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.separate import PROVEN, _Problem, disaggregate
from deepleak_core.federated import client
from deepleak_core.federated.case import local_training_of, target_model
from deepleak_core.scenario import Scenario


def last_layer(features: Tensor, labels: Tensor, classes: int, *, bias: bool = True, seed: int = 0) -> LastLayer:
    """A random last layer and its mean gradient, by autograd in the precision of the features."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(features.shape[1], classes, bias=bias).to(features.dtype)
    torch.nn.functional.cross_entropy(layer(features), labels).backward()
    return LastLayer(
        weight=layer.weight.detach(),
        bias=layer.bias.detach() if bias else None,
        weight_gradient=layer.weight.grad,
        bias_gradient=layer.bias.grad if bias else None,
    )


def random_features(images: int, dimension: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(dimension, generator=generator)
    return (common + torch.randn(images, dimension, generator=generator)).relu().to(dtype)


def relative_errors(found: Tensor, true: Tensor) -> np.ndarray:
    """Each true feature vector's relative distance to the found one that it is matched to."""
    distance = torch.cdist(true.double(), found.double()).numpy()
    rows, columns = linear_sum_assignment(distance)
    return distance[rows, columns] / true.double().norm(dim=1).numpy()


def counts_of(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels, minlength=classes)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000), st.booleans())
def test_distinct_labels_give_exact_features(images: int, seed: int, bias: bool) -> None:
    features = random_features(images, 40, seed)
    labels = torch.randperm(12, generator=torch.Generator().manual_seed(seed))[:images]
    found = disaggregate(last_layer(features, labels, 12, bias=bias, seed=seed), counts_of(labels, 12))
    assert relative_errors(found.features, features).max() < 1e-4
    assert found.misfit < PROVEN
    assert found.labels.tolist() == sorted(labels.tolist())


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=2, max_size=5), st.integers(0, 10_000))
def test_repeating_labels_in_float64_give_exact_features_in_any_order(labels: list[int], seed: int) -> None:
    features, classes = random_features(len(labels), 40, seed, torch.float64), torch.tensor(labels)
    layer = last_layer(features, classes, 12, seed=seed)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    again = last_layer(features[shuffled], classes[shuffled], 12, seed=seed)
    found = disaggregate(layer, counts_of(classes, 12), seed=seed)
    assert relative_errors(found.features, features).max() < 1e-3
    other = disaggregate(again, counts_of(classes, 12), seed=seed)
    assert relative_errors(other.features, found.features).max() < 1e-3


def test_slow_steps_end_where_they_gain_little(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = random_features(6, 60, 0), torch.tensor([0, 0, 1, 1, 2, 3])
    layer = last_layer(features, labels, 12)
    near = features.double() * (1 + 0.1 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1)))

    def steps(dense_unknowns: int, settled_soon: float) -> int:
        monkeypatch.setattr(disaggregation, "DENSE_UNKNOWNS", dense_unknowns)
        monkeypatch.setattr(disaggregation, "SETTLED_SOON", settled_soon)
        asked = itertools.count()
        found = disaggregate(layer, counts_of(labels, 12), start=near, tries=0, stop=lambda: next(asked) < 0)
        assert found.misfit < PROVEN
        return next(asked)

    assert steps(0, 0.5) < steps(0, 1e-7)
    assert steps(36, 0.5) == steps(36, 1e-7), "quick ones go on"


def test_creeping_conjugate_gradients_give_way_to_direct_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = random_features(6, 40, 0), torch.arange(6)
    layer = last_layer(features, labels, 12)
    near = features.double() * (1 + 0.1 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1)))
    direct = disaggregation._Problem._steps
    taken = []
    monkeypatch.setattr(disaggregation._Problem, "_steps", lambda *a: taken.append(1) or direct(*a))
    monkeypatch.setattr(disaggregation, "DENSE_UNKNOWNS", 0)
    monkeypatch.setattr(disaggregation, "CONJUGATE", 2)  # too few, ever, to get anywhere
    found = disaggregate(layer, counts_of(labels, 12), start=near, tries=0)
    assert taken and found.misfit < disaggregation.SOLVED
    taken.clear()
    monkeypatch.setattr(disaggregation, "FACTORABLE_UNKNOWNS", 35)
    with suppress(NotSeparated):
        disaggregate(layer, counts_of(labels, 12), start=near, tries=0)
    assert not taken, "there is no room for the matrix"


def test_a_step_that_finds_no_way_down_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = random_features(4, 40, 0), torch.arange(4)
    problem = _Problem.of(last_layer(features, labels, 12), counts_of(labels, 12))
    tried = itertools.count()
    monkeypatch.setattr(
        _Problem, "_steps", lambda self, m, *_: lambda damping: torch.full_like(m, float(1 + next(tried)) * 1e6)
    )
    start = problem.start(torch.Generator().manual_seed(0), 0)
    asked = itertools.count()
    assert torch.equal(problem.solve(start, problem.plain, lambda: next(asked) > 2), start)
    assert next(tried) == 2


@pytest.mark.parametrize(("above_noise", "clear"), [(11.0, False), (29.0, False), (31.0, True)])
def test_an_image_hardly_above_noise_is_not_clear(above_noise: float, clear: bool) -> None:
    """Seven times above noise, a wrong label once fitted as well as right ones: nine images of a trained ResNet-20."""
    features, labels = random_features(3, 40, 0), torch.tensor([0, 1, 2])
    found = disaggregate(last_layer(features, labels, 12), counts_of(labels, 12))
    assert found.clear
    values = torch.tensor([5.0, 1.0, above_noise * 1e-8, 1e-8])
    assert replace(found, singular_values=values).clear == clear


def trained_layer(
    features: Tensor, labels: Tensor, classes: int, *, wide: float, sure: float, seed: int = 0
) -> LastLayer:
    """A last layer as if trained: logits are `wide` times as wide, each image's own is about `sure` higher still."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(features.shape[1], classes)
    with torch.no_grad():
        layer.weight *= wide
        for label, away in zip(labels, features - features.mean(0), strict=True):
            layer.weight[label] += sure * away / away.square().sum()
    torch.nn.functional.cross_entropy(layer(features), labels).backward()
    return LastLayer(
        weight=layer.weight.detach(),
        bias=layer.bias.detach(),
        weight_gradient=layer.weight.grad,
        bias_gradient=layer.bias.grad,
    )


@pytest.mark.parametrize(("wide", "sure"), [(1.0, 0.0), (1.0, 8.0), (10.0, 5.0), (10.0, 10.0)])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_left_is_about_the_rounding_expected(wide: float, sure: float, seed: int) -> None:
    features, labels = random_features(9, 64, seed), torch.tensor([0, 0, 0, 1, 2, 5, 5, 7, 8])
    layer = trained_layer(features, labels, 10, wide=wide, sure=sure, seed=seed)
    found = disaggregate(layer, counts_of(labels, 10), start=features.double(), tries=0)
    assert 0.01 < found.misfit < 5


def test_the_label_of_an_image_that_leaves_next_to_nothing_shows() -> None:
    """Rounding is relative: what a sure image leaves in small rows of the gradient tells its label."""
    features, labels = random_features(5, 200, 0), torch.tensor([0, 0, 1, 2, 5])
    layer = trained_layer(features, labels, 12, wide=1.0, sure=10.0)
    signals = torch.softmax(features @ layer.weight.T + layer.bias, 1) - torch.eye(12)[labels]
    assert float(signals.norm(dim=1).min()) < 1e-3
    disaggregate(layer, counts_of(labels, 12), start=features.double(), tries=0)
    for place in range(5):
        wrong = labels.clone()
        wrong[place] = 7
        start = features[wrong.argsort(stable=True)].double()
        with pytest.raises(NotSeparated) as refusal:
            disaggregate(layer, counts_of(wrong, 12), start=start, tries=2)
        assert refusal.value.misfit > 10 * PROVEN


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000))
def test_a_wrong_count_is_told(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features, labels = random_features(4, 40, seed), torch.randint(0, 12, (4,), generator=generator)
    counts = counts_of(labels, 12)
    wrong = counts.clone()
    present = int(labels[0])
    wrong[present] -= 1
    wrong[(present + 1) % 12] += 1
    with pytest.raises(NotSeparated) as refusal:
        disaggregate(last_layer(features, labels, 12, seed=seed), wrong, tries=6)
    assert refusal.value.misfit > 10 * PROVEN
    assert "a label count is wrong" in str(refusal.value)


@pytest.mark.parametrize("model", ["lenet64-elu", "lenet64-relu", "resnet20"])
@pytest.mark.parametrize("indices", [(0, 1, 3, 4), (4, 5, 1, 2), (4, 5, 7, 19)])
def test_the_error_estimate_is_honest_on_real_images(model: str, indices: tuple[int, ...]) -> None:
    scenario = Scenario(indices=indices, model=model)
    batch, target = load_batch(scenario), target_model(scenario)
    update = client.share(target, batch.images, batch.labels)
    found = separate_features(target, update, batch.labels, scenario)
    with torch.no_grad():
        errors = relative_errors(found.features, target.features(batch.images))
    assert errors.max() < 5e-3
    assert errors.max() < 30 * float(found.errors.max()) + 1e-6


def test_eight_images_of_one_class_of_a_thousand_on_resnet18() -> None:
    scenario = Scenario(dataset="imagenet-samples", image_size=224, model="resnet18", indices=range(8))
    batch, target = load_batch(scenario), target_model(scenario)
    labels = torch.full((8,), 5)
    found = separate_features(target, client.share(target, batch.images, labels), labels, scenario)
    with torch.no_grad():
        assert relative_errors(found.features, target.features(batch.images)).max() < 1e-3


def test_more_images_than_the_layer_can_tell_apart_are_refused() -> None:
    features, labels = random_features(5, 40, 0), torch.tensor([0, 1, 2, 3, 4])
    with pytest.raises(CannotSeparate, match="5 images share a last layer of 5 classes"):
        disaggregate(last_layer(features, labels, 5), counts_of(labels, 5))


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_gradient_without_features_is_refused(value: float) -> None:
    layer = last_layer(random_features(2, 40, 0), torch.tensor([0, 1]), 5)
    empty = LastLayer(
        weight=layer.weight, bias=None, weight_gradient=torch.full_like(layer.weight, value), bias_gradient=None
    )
    with pytest.raises(CannotSeparate, match="zero or not finite"):
        disaggregate(empty, torch.tensor([1, 1, 0, 0, 0]))


def test_noise_and_several_local_steps_are_no_plain_gradient() -> None:
    scenario = Scenario(indices=(4, 5, 7, 19), mode="fedavg", local_epochs=5, local_lr=0.1)
    batch, target = load_batch(scenario), target_model(scenario)
    trained = client.share(target, batch.images, batch.labels, local_training_of(scenario))
    with pytest.raises(NotSeparated):
        separate_features(target, trained, batch.labels, scenario)

    update = client.share(target, batch.images, batch.labels)
    generator = torch.Generator().manual_seed(0)
    noisy = {
        name: tensor + 1e-2 * tensor.std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in update.tensors.items()
    }
    with pytest.raises(NotSeparated):
        separate_features(target, client.ClientUpdate(tensors=noisy, batch_size=4), batch.labels, scenario)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weighing", ["even", "trust"])
def test_jacobian_products_normal_matrix_and_both_steps_agree(weighing: str, bias: bool) -> None:
    labels = torch.tensor([0, 0, 2, 5])
    problem = _Problem.of(last_layer(random_features(4, 40, 1), labels, 9, bias=bias), counts_of(labels, 9))
    m = problem.start(torch.Generator().manual_seed(0), 1)
    weights = problem.even if weighing == "even" else problem.trust(m) * 1e-6
    p, signals, residual = problem.evaluate(m, weights)
    tangents = p[:, :, None] * (problem.logit_map - (p @ problem.logit_map)[:, None, :])
    jacobian = torch.autograd.functional.jacobian(lambda x: problem.evaluate(x, weights)[2], m)
    jacobian = jacobian.reshape(residual.numel(), m.numel())
    step = torch.randn(m.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pushed = problem._apply(step, m, weights, signals, tangents)
    torch.testing.assert_close(pushed.flatten(), jacobian @ step.flatten())
    gradient = problem._transposed(residual, m, weights, signals, tangents)
    torch.testing.assert_close(gradient.flatten(), jacobian.T @ residual.flatten())
    torch.testing.assert_close(problem._normal_matrix(m, weights, signals, tangents), jacobian.T @ jacobian)
    dense = problem._steps(m, weights, signals, tangents, gradient)(1e-1)
    by_cg = problem._steps_by_conjugate_gradients(m, weights, signals, tangents, gradient)(1e-1)
    torch.testing.assert_close(by_cg, dense, rtol=1e-3, atol=1e-4 * float(dense.abs().max()))
