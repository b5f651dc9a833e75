"""Images counted by features of their own: on batches larger than the number of classes, and where there are none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.errors import CannotSeparate
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.labels.exclusive_features import count_exclusive
from deepleak_core.labels.strategies import infer_labels
from deepleak_core.scenario import Scenario
from tests.helpers import knowledge_of, last_layer

CLASSES = 6


def batch(images: int, seed: int, *, lit: float = 0.08, floor: float = 0.0) -> tuple[LastLayer, Tensor, Tensor]:
    """A layer of six classes, its features (K, D), each lit with that probability, and labels (K,)."""
    generator = torch.Generator().manual_seed(seed)
    on = torch.rand(images, 600, generator=generator) < lit
    features = floor + on * (0.1 + torch.rand(images, 600, generator=generator))
    labels = torch.randint(CLASSES, (images,), generator=generator)
    return last_layer(features.float(), labels, classes=CLASSES, floor=floor), on, labels


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 15), st.integers(0, 10_000), st.sampled_from([0.0, -1.0]))
def test_images_with_two_features_for_themselves_are_counted(images: int, seed: int, floor: float) -> None:
    layer, on, labels = batch(images, seed, floor=floor)
    alone = (on & (on.sum(0) == 1)).sum(1) >= 2  # naive: from the features themselves
    expected = torch.bincount(labels[alone], minlength=CLASSES)
    found = count_exclusive(layer, images)
    assert (found <= torch.bincount(labels, minlength=CLASSES)).all(), "an image that is not there"
    assert int((expected - found).abs().sum()) <= 1  # a mixture may, by accident, look like another image's signal


def test_of_many_images_those_without_features_for_themselves_stay_uncounted() -> None:
    layer, _, labels = batch(200, 0, lit=0.5)
    assert int(count_exclusive(layer, 200).sum()) < 20
    assert len(labels) == 200


@pytest.mark.parametrize("missing", ["floor", "bias"])
def test_without_a_floor_or_a_bias_nothing_is_counted(missing: str) -> None:
    layer, _, _ = batch(8, 0)
    layer = replace(layer, floor=None) if missing == "floor" else replace(layer, bias=None, bias_gradient=None)
    assert not count_exclusive(layer, 8).any()


def test_noise_counts_no_images() -> None:
    layer, _, _ = batch(8, 0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(layer.weight.shape, generator=generator)
    noisy = replace(layer, weight_gradient=layer.weight_gradient + noise * layer.weight_gradient.std())
    assert not count_exclusive(noisy, 8).any()


def test_an_empty_gradient_is_refused() -> None:
    layer, _, _ = batch(2, 0)
    empty = replace(
        layer, weight_gradient=torch.zeros_like(layer.weight), bias_gradient=torch.zeros_like(layer.bias_gradient)
    )
    with pytest.raises(CannotSeparate, match="zero or not finite"):
        count_exclusive(empty, 2)


def test_more_images_than_classes_of_a_trained_network_are_counted() -> None:
    """Fifteen images of ten classes: no other rule has the whole batch right."""
    known, truth = knowledge_of(Scenario(model="lenet64-relu", stage="early", indices=tuple(range(15))))
    found = infer_labels(known.case, "verified")
    assert torch.equal(found.counts, truth)
    assert not found.certified
    assert found.note == "15 of 15 images counted by features of their own."
    assert found.confidence is not None
    assert found.confidence.min() > 0.99
    assert not torch.equal(infer_labels(known.case, "zero-shot").counts, truth)


def test_in_weights_that_were_rounded_nothing_is_counted() -> None:
    local = {"mode": "fedavg", "local_batch_size": 15}
    known, _ = knowledge_of(Scenario(model="lenet64-relu", stage="early", indices=tuple(range(15)), **local))
    found = infer_labels(known.case, "verified")
    assert known.update.local_steps == 1
    assert "features of their own" not in found.note
