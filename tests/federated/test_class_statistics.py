"""Mean predictions of a network for each class: against a loop, and through a checkpoint's metadata."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepleak_core.data.datasets import DATASETS
from deepleak_core.federated import checkpoints, models
from deepleak_core.federated.class_statistics import ClassStatistics
from tests.labels.test_class_priors import CLASSES, network


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_means_and_covariances_are_those_of_a_loop(seed: int) -> None:
    found, probabilities, truth = network(seed)
    spread = torch.zeros(CLASSES, CLASSES).double()
    for label in truth.unique():
        own = probabilities[truth == label]
        assert torch.allclose(found.predictions[label], own.mean(0))
        spread += (own - own.mean(0)).T @ (own - own.mean(0))
    assert torch.allclose(found.covariance, spread / (len(truth) - len(truth.unique())))


def test_a_class_without_images_predicts_like_all() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]).double()
    found = ClassStatistics.of(probabilities, torch.tensor([0, 1]))
    assert torch.allclose(found.predictions[2], probabilities.mean(0))
    assert found.covariance.isfinite().all()


def test_what_is_written_is_read() -> None:
    known, _, _ = network(0)
    again = ClassStatistics.from_json(known.to_json(), CLASSES)
    assert again is not None
    assert torch.allclose(again.predictions, known.predictions)
    assert torch.allclose(again.covariance, known.covariance)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"predictions": [[1]]}', '{"predictions": 1, "spread": "x"}'])
def test_what_is_not_statistics_is_none(text: str) -> None:
    assert ClassStatistics.from_json(text, CLASSES) is None


def test_statistics_of_other_classes_or_without_numbers_is_none() -> None:
    known, _, _ = network(0)
    assert ClassStatistics.from_json(known.to_json(), CLASSES + 1) is None
    broken = ClassStatistics(predictions=known.predictions * torch.nan, covariance=known.covariance)
    assert ClassStatistics.from_json(broken.to_json(), CLASSES) is None


@pytest.mark.parametrize("model", [name for name in models.MODELS if len(checkpoints.stages(name, "cifar10")) > 1])
def test_shipped_checkpoints_say_what_they_predict(model: str) -> None:
    for stage, checkpoint in checkpoints.stages(model, DATASETS["cifar10-samples"].vocabulary).items():
        if checkpoint is not None:
            trained = models.build(model, classes=10, image_size=32, mean=(0,) * 3, std=(1,) * 3, checkpoint=checkpoint)
            assert trained.class_statistics is not None, stage
            assert torch.allclose(trained.class_statistics.predictions.sum(1), torch.ones(10).double(), atol=1e-5)
            assert torch.equal(trained.class_statistics.predictions.argmax(0), torch.arange(10)) or stage == "early"
