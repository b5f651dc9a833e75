"""Estimates of label counts where nothing can be certified."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepleak_core.labels import estimates
from deepleak_core.labels.estimates import balanced, predicts_the_same, probability_right
from deepleak_core.labels.evidence import Knowledge, round_counts
from deepleak_core.labels.verified import verified
from deepleak_core.scenario import Scenario
from tests.helpers import knowledge_of


@given(st.lists(st.integers(0, 5), min_size=10, max_size=10).filter(any), st.floats(0.3, 1.0))
@settings(max_examples=20, deadline=None)
def test_balanced_is_exact_where_errors_spread_evenly(counts: list[int], errors: float) -> None:
    true, images = torch.tensor(counts).double(), sum(counts)
    predictions = (1 - errors) * torch.eye(10).double() + errors / 10
    gradient = predictions.T @ true / images - true / images
    if gradient.abs().max() < 1e-9:
        return  # as many of each class: nothing can be seen of the errors, and nothing need be
    known, _ = knowledge_of(Scenario(model="lenet", indices=(0,)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "class_predictions", lambda _: predictions)
        patch.setattr(Knowledge, "bias_gradient", gradient)
        patch.setattr(Knowledge, "batch_size", images)
        real = balanced(known)
    assert torch.allclose(real, true, atol=1e-6)
    assert torch.equal(round_counts(real, images), true.long())


@given(st.floats(-3, 9), st.floats(0, 5))
def test_probabilities_of_all_integers_sum_to_one(real: float, deviation: float) -> None:
    counts = torch.arange(-60, 70).double()
    chances = probability_right(torch.tensor(real).double(), counts, torch.tensor(deviation).double())
    assert chances.min() >= 0
    assert float(chances.sum()) == pytest.approx(1)
    assert float((counts[chances.argmax()] - real).abs()) <= 0.5 + 1e-6, "the nearest integer is the likeliest"


@pytest.mark.parametrize(("stage", "same"), [("untrained", True), ("late", False)])
@pytest.mark.parametrize("model", ["lenet64-elu", "resnet20"])
def test_untrained_networks_predict_the_same(model: str, stage: str, same: bool) -> None:
    known, _ = knowledge_of(Scenario(indices=(0,), model=model, stage=stage))
    assert predicts_the_same(known) == same


def test_class_statistics_improve_the_counts_of_large_batches() -> None:
    """Twenty images of an early ResNet-20, whose predictions favour some classes over others."""
    known, truth = knowledge_of(Scenario(model="resnet20", stage="early", indices=tuple(range(20))))
    found = verified(known)
    assert "validated" in found.note
    assert found.confidence is not None
    assert 0 < found.confidence.min() < 0.99
    known.model.class_statistics = None
    without = verified(known)
    assert "validated" not in without.note
    assert (found.counts - truth).abs().sum() < (without.counts - truth).abs().sum()
