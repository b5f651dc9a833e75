"""Bayesian label counts from class statistics: against algebra done another way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.federated.class_statistics import ClassStatistics
from deepleak_core.labels import class_priors
from deepleak_core.labels.class_priors import posterior_counts
from deepleak_core.labels.evidence import round_counts

CLASSES = 5


def network(seed: int, *, sure: float = 1.0, images: int = 200) -> tuple[ClassStatistics, Tensor, Tensor]:
    """Its validation, and the probabilities (N, C) and labels (N,) that this is of."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(CLASSES, (images,), generator=generator)
    logits = torch.randn(images, CLASSES, generator=generator).double()
    logits[torch.arange(images), truth] += 2 * sure
    return ClassStatistics.of(logits.softmax(1), truth), logits.softmax(1), truth


def bias_of(probabilities: Tensor, truth: Tensor) -> Tensor:
    return (probabilities - torch.nn.functional.one_hot(truth, CLASSES)).mean(0)


@given(st.lists(st.integers(0, 40), min_size=CLASSES, max_size=CLASSES).filter(any), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_counts_are_exact_where_all_images_of_a_class_are_predicted_alike(counts: list[int], seed: int) -> None:
    known, _, _ = network(seed)
    alike = ClassStatistics(predictions=known.predictions, covariance=torch.zeros_like(known.covariance))
    true, images = torch.tensor(counts).double(), sum(counts)
    bias = (alike.predictions.T @ true - true) / images
    found, deviations = posterior_counts(alike, bias, images)
    assert torch.equal(round_counts(found, images), true.long())
    assert (deviations < 0.2).all()


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(max_examples=30, deadline=None)
def test_the_posterior_is_that_of_bayes_rule_in_precisions(seed: int, images: int) -> None:
    """The same for one prior, in coordinates where nothing is singular and with inverses in place of gains."""
    known, probabilities, truth = network(seed)
    bias = bias_of(probabilities[:images], truth[:images])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_priors, "UNEVENNESS", {3.0: 1.0})
        found, deviations = posterior_counts(known, bias, images)
    free = torch.linalg.svd(torch.ones(1, CLASSES).double())[2][1:]  # what sums to zero, (C - 1, C)
    noise = images * (free @ known.covariance @ free.T + class_priors.LEAST_VARIANCE * torch.eye(CLASSES - 1))
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
    found, deviations = posterior_counts(known, bias_of(probabilities[:images], truth[:images]), images, seen)
    assert (found >= seen).all()
    assert (deviations >= 0).all()
    if int(seen.sum()) == images:
        assert torch.allclose(found, seen.double())
        assert (deviations < 1e-6).all()


def test_the_surer_the_network_the_less_the_bias_tells() -> None:
    deviations = []
    for sure in (0.5, 4.0):
        statistics, probabilities, truth = network(0, sure=sure)
        deviations.append(posterior_counts(statistics, bias_of(probabilities, truth), 200)[1])
    assert (deviations[1] > 1.5 * deviations[0]).all()
