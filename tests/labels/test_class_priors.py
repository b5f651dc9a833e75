"""Label counts by what a network predicts for each class: against algebra done another way, and on its own promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.data.datasets import DATASETS
from deepleak_core.federated import checkpoints, models
from deepleak_core.federated import class_statistics as validation
from deepleak_core.federated.class_statistics import Validation
from deepleak_core.labels import strategies as labels
from deepleak_core.scenario import Scenario
from tests.labels.test_certification import knowledge

CLASSES = 5


def network(seed: int, *, sure: float = 1.0, images: int = 200) -> tuple[Validation, Tensor, Tensor]:
    """Its validation, and the probabilities (N, C) and labels (N,) that this is of."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(CLASSES, (images,), generator=generator)
    logits = torch.randn(images, CLASSES, generator=generator).double()
    logits[torch.arange(images), truth] += 2 * sure
    return Validation.of(logits.softmax(1), truth), logits.softmax(1), truth


def bias_of(probabilities: Tensor, truth: Tensor) -> Tensor:
    return (probabilities - torch.nn.functional.one_hot(truth, CLASSES)).mean(0)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_means_and_covariances_are_those_of_a_loop(seed: int) -> None:
    found, probabilities, truth = network(seed)
    spread = torch.zeros(CLASSES, CLASSES).double()
    for label in truth.unique():
        own = probabilities[truth == label]
        assert torch.allclose(found.predictions[label], own.mean(0))
        spread += (own - own.mean(0)).T @ (own - own.mean(0))
    assert torch.allclose(found.spread, spread / (len(truth) - len(truth.unique())))


@given(st.lists(st.integers(0, 40), min_size=CLASSES, max_size=CLASSES).filter(any), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_counts_are_exact_where_all_images_of_a_class_are_predicted_alike(counts: list[int], seed: int) -> None:
    known, _, _ = network(seed)
    alike = Validation(predictions=known.predictions, spread=torch.zeros_like(known.spread))
    true, images = torch.tensor(counts).double(), sum(counts)
    bias = (alike.predictions.T @ true - true) / images
    found, deviations = alike.counts(bias, images)
    assert torch.equal(labels.round_counts(found, images), true.long())
    assert (deviations < 0.2).all()


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(max_examples=30, deadline=None)
def test_the_posterior_is_that_of_bayes_rule_in_precisions(seed: int, images: int) -> None:
    """The same for one prior, in coordinates where nothing is singular and with inverses in place of gains."""
    known, probabilities, truth = network(seed)
    bias = bias_of(probabilities[:images], truth[:images])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "UNEVEN", {3.0: 1.0})
        found, deviations = known.counts(bias, images)
    free = torch.linalg.svd(torch.ones(1, CLASSES).double())[2][1:]  # what sums to zero, (C - 1, C)
    noise = images * (free @ known.spread @ free.T + validation.ROUNDING * torch.eye(CLASSES - 1))
    blur = free @ (known.predictions.T - torch.eye(CLASSES)) @ free.T
    even = torch.full((CLASSES,), images / CLASSES).double()
    surprise = free @ (images * bias - (known.predictions.T - torch.eye(CLASSES)) @ even)
    precision = blur.T @ torch.linalg.inv(noise) @ blur + torch.eye(CLASSES - 1) * CLASSES / (3 * images)
    mean = even + free.T @ torch.linalg.solve(precision, blur.T @ torch.linalg.solve(noise, surprise))
    assert torch.allclose(found, mean.clamp_min(0), atol=1e-3)
    assert torch.allclose(deviations, (free.T @ torch.linalg.inv(precision) @ free).diagonal().sqrt(), atol=1e-3)


@given(st.integers(0, 10_000), st.integers(1, 60), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_images_that_were_seen_are_counted(seed: int, images: int, share: float) -> None:
    known, probabilities, truth = network(seed)
    seen = torch.bincount(truth[: round(share * images)], minlength=CLASSES)
    found, deviations = known.counts(bias_of(probabilities[:images], truth[:images]), images, seen)
    assert (found >= seen).all() and (deviations >= 0).all()
    if int(seen.sum()) == images:
        assert torch.allclose(found, seen.double()) and (deviations < 1e-6).all()


def test_the_surer_the_network_the_less_the_bias_tells() -> None:
    unsure, sure = network(0, sure=0.5), network(0, sure=4.0)
    assert (sure[0].counts(bias_of(*sure[1:]), 200)[1] > 1.5 * unsure[0].counts(bias_of(*unsure[1:]), 200)[1]).all()


def test_a_class_without_images_predicts_like_all() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]).double()
    found = Validation.of(probabilities, torch.tensor([0, 1]))
    assert torch.allclose(found.predictions[2], probabilities.mean(0)) and found.spread.isfinite().all()


def test_what_is_written_is_read() -> None:
    known, _, _ = network(0)
    again = Validation.from_json(known.to_json(), CLASSES)
    assert again is not None
    assert torch.allclose(again.predictions, known.predictions) and torch.allclose(again.spread, known.spread)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"predictions": [[1]]}', '{"predictions": 1, "spread": "x"}'])
def test_what_is_no_validation_is_none(text: str) -> None:
    assert Validation.from_json(text, CLASSES) is None


def test_a_validation_of_other_classes_or_without_numbers_is_none() -> None:
    known, _, _ = network(0)
    assert Validation.from_json(known.to_json(), CLASSES + 1) is None
    broken = Validation(predictions=known.predictions * torch.nan, spread=known.spread)
    assert Validation.from_json(broken.to_json(), CLASSES) is None


@pytest.mark.parametrize("model", [name for name in models.MODELS if len(checkpoints.stages(name, "cifar10")) > 1])
def test_shipped_checkpoints_say_what_they_predict(model: str) -> None:
    for stage, checkpoint in checkpoints.stages(model, DATASETS["cifar10-samples"].vocabulary).items():
        if checkpoint is not None:
            trained = models.build(model, classes=10, image_size=32, mean=(0,) * 3, std=(1,) * 3, checkpoint=checkpoint)
            assert trained.validation is not None, stage
            assert torch.allclose(trained.validation.predictions.sum(1), torch.ones(10).double(), atol=1e-5)
            assert torch.equal(trained.validation.predictions.argmax(0), torch.arange(10)) or stage == "early"


def test_more_images_than_classes_are_better_told_with_it() -> None:
    """Twenty images of an early ResNet-20, whose predictions favour some classes over others."""
    known, truth = knowledge(Scenario(model="resnet20", stage="early", indices=tuple(range(20))))
    found = labels.verified(known)
    assert "validated" in found.note and found.confidence is not None and 0 < found.confidence.min() < 0.99
    known.model.validation = None
    blind = labels.verified(known)
    assert "validated" not in blind.note
    assert (found.counts - truth).abs().sum() < (blind.counts - truth).abs().sum()
