"""The last layer's gradient taken apart: exact features, proven counts, typed refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from deepleak_core.errors import CannotSeparate, NotSeparated
from deepleak_core.features import separate
from deepleak_core.features.factors import Factors
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.separate import CERTIFIED_MISFIT, SOLVED_MISFIT, SeparatedFeatures, separate_features
from deepleak_core.federated.case import observe
from deepleak_core.scenario import Scenario
from tests.helpers import knowledge_of, last_layer, relu_features


def random_features(images: int, dimension: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return relu_features(images, seed, dimension, dtype)


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
    found = separate_features(last_layer(features, labels, bias=bias, seed=seed), counts_of(labels, 12))
    assert relative_errors(found.features, features).max() < 1e-4
    assert found.misfit < CERTIFIED_MISFIT
    assert found.labels.tolist() == sorted(labels.tolist())


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=2, max_size=5), st.integers(0, 10_000))
def test_repeating_labels_in_float64_give_exact_features_in_any_order(labels: list[int], seed: int) -> None:
    features, classes = random_features(len(labels), 40, seed, torch.float64), torch.tensor(labels)
    layer = last_layer(features, classes, seed=seed)
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    again = last_layer(features[shuffled], classes[shuffled], seed=seed)
    found = separate_features(layer, counts_of(classes, 12), seed=seed)
    assert relative_errors(found.features, features).max() < 1e-3
    other = separate_features(again, counts_of(classes, 12), seed=seed)
    assert relative_errors(other.features, found.features).max() < 1e-3


@pytest.mark.parametrize(("above_noise", "clear"), [(11.0, False), (29.0, False), (31.0, True)])
def test_an_image_hardly_above_noise_is_not_clear(above_noise: float, clear: bool) -> None:
    """Seven times above noise, a wrong label once fitted as well as right ones: nine images of a trained ResNet-20."""
    features, labels = random_features(3, 40, 0), torch.tensor([0, 1, 2])
    found = separate_features(last_layer(features, labels), counts_of(labels, 12))
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
    found = separate_features(layer, counts_of(labels, 10), start=features.double(), tries=0)
    assert 0.01 < found.misfit < 5


def test_the_label_of_an_image_that_leaves_next_to_nothing_shows() -> None:
    """Rounding is relative: what a sure image leaves in small rows of the gradient tells its label."""
    features, labels = random_features(5, 200, 0), torch.tensor([0, 0, 1, 2, 5])
    layer = trained_layer(features, labels, 12, wide=1.0, sure=10.0)
    signals = torch.softmax(features @ layer.weight.T + layer.bias, 1) - torch.eye(12)[labels]
    assert float(signals.norm(dim=1).min()) < 1e-3
    separate_features(layer, counts_of(labels, 12), start=features.double(), tries=0)
    for place in range(5):
        wrong = labels.clone()
        wrong[place] = 7
        start = features[wrong.argsort(stable=True)].double()
        with pytest.raises(NotSeparated) as refusal:
            separate_features(layer, counts_of(wrong, 12), start=start, tries=2)
        assert refusal.value.misfit > 10 * CERTIFIED_MISFIT


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000))
def test_a_wrong_count_is_refused(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features, labels = random_features(4, 40, seed), torch.randint(0, 12, (4,), generator=generator)
    counts = counts_of(labels, 12)
    wrong = counts.clone()
    present = int(labels[0])
    wrong[present] -= 1
    wrong[(present + 1) % 12] += 1
    with pytest.raises(NotSeparated) as refusal:
        separate_features(last_layer(features, labels, seed=seed), wrong, tries=6)
    assert refusal.value.misfit > 10 * CERTIFIED_MISFIT
    assert "a label count is wrong" in str(refusal.value)


@pytest.mark.parametrize(("dense", "formable"), [(0, 0), (0, 10_000), (10_000, 10_000)])
def test_large_and_small_systems_are_solved_alike(dense: int, formable: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By conjugate gradients alone, by both, and densely."""
    features, labels = random_features(6, 60, 0), torch.tensor([0, 0, 1, 1, 2, 3])
    near = features.double() * (1 + 0.1 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1)))
    monkeypatch.setattr(separate, "DENSE_UNKNOWNS", dense)
    monkeypatch.setattr(separate, "LARGEST_DENSE_UNKNOWNS", formable)
    found = separate_features(last_layer(features, labels), counts_of(labels, 12), start=near, tries=0)
    assert found.misfit < SOLVED_MISFIT
    assert relative_errors(found.features, features).max() < 1e-3


def test_slow_conjugate_gradients_give_way_to_dense_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = random_features(6, 40, 0), torch.arange(6)
    near = features.double() * (1 + 0.1 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1)))
    monkeypatch.setattr(separate, "DENSE_UNKNOWNS", 0)
    monkeypatch.setattr(separate, "CONJUGATE_STEPS", 2)  # too few to get anywhere
    found = separate_features(last_layer(features, labels), counts_of(labels, 12), start=near, tries=0)
    assert found.misfit < SOLVED_MISFIT


def of_scenario(scenario: Scenario) -> tuple[SeparatedFeatures, Tensor]:
    """What is separated from a batch's gradient under its true labels, and its features (K, D)."""
    case, truth = observe(scenario)
    counts = counts_of(truth.labels, len(truth.class_names))
    with torch.no_grad():
        return separate_features(LastLayer.of(case.model, case.gradient), counts), case.model.features(truth.images)


@pytest.mark.parametrize("model", ["lenet64-elu", "lenet64-relu", "resnet20"])
@pytest.mark.parametrize("indices", [(0, 1, 3, 4), (4, 5, 1, 2), (4, 5, 7, 19)])
def test_the_error_estimate_is_honest_on_real_images(model: str, indices: tuple[int, ...]) -> None:
    found, features = of_scenario(Scenario(indices=indices, model=model))
    errors = relative_errors(found.features, features)
    assert errors.max() < 5e-3
    assert errors.max() < 30 * float(found.errors.max()) + 1e-6


def test_eight_images_of_one_class_of_a_thousand_on_resnet18() -> None:
    scenario = Scenario(dataset="imagenet-samples", image_size=224, model="resnet18", indices=range(8))
    case, truth = observe(scenario)
    labels = torch.full((8,), 5)
    gradients = torch.autograd.grad(
        torch.nn.functional.cross_entropy(case.model(truth.images), labels), list(case.model.head.parameters())
    )
    layer = LastLayer.of(case.model, dict(zip(("head.weight", "head.bias"), gradients, strict=True)))
    found = separate_features(layer, counts_of(labels, 1000))
    with torch.no_grad():
        assert relative_errors(found.features, case.model.features(truth.images)).max() < 1e-3


def test_factors_can_be_given_in_place_of_the_layer() -> None:
    features, labels = random_features(4, 40, 0), torch.tensor([0, 1, 1, 5])
    layer = last_layer(features, labels)
    again = separate_features(Factors.of(layer, 4), counts_of(labels, 12))
    assert torch.equal(separate_features(layer, counts_of(labels, 12)).features, again.features)


def test_a_layer_in_float64_is_separated_as_well() -> None:
    features, labels = random_features(4, 40, 0, torch.float64), torch.tensor([0, 1, 1, 5])
    found = separate_features(last_layer(features, labels), counts_of(labels, 12))
    assert found.clear
    assert relative_errors(found.features, features).max() < 1e-6


def test_more_images_than_the_layer_can_hold_are_refused() -> None:
    layer = last_layer(random_features(5, 40, 0), torch.arange(5), classes=5)
    with pytest.raises(CannotSeparate, match="5 images share a last layer of 5 classes"):
        separate_features(layer, torch.ones(5, dtype=torch.long))


def test_noise_and_several_local_steps_are_no_plain_gradient() -> None:
    trained, counts = knowledge_of(Scenario(indices=(4, 5, 7, 19), mode="fedavg", local_epochs=5, local_lr=0.1))
    noisy, _ = knowledge_of(Scenario(indices=(4, 5, 7, 19)), noise=1e-2)
    for known in (trained, noisy):
        with pytest.raises(NotSeparated):
            separate_features(known.last_layer, counts)
