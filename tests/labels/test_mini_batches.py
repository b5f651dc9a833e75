"""Counts of batches whose last mini-batch is short: its images weigh more in the weight change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepleak_core import Scenario, infer_labels, observe
from deepleak_core.federated.client import LocalTraining
from deepleak_core.labels.evidence import round_counts
from deepleak_core.labels.mini_batches import round_weighted_counts, short_batch


@given(st.data())
def test_counts_are_those_of_as_many_images_as_there_are(data: st.DataObject) -> None:
    batch_size = data.draw(st.integers(2, 6))
    whole_batches, short = data.draw(st.integers(1, 3)), data.draw(st.integers(1, batch_size - 1))
    images = whole_batches * batch_size + short
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=images, max_size=images)))
    local = LocalTraining(epochs=1, batch_size=batch_size, lr=0.1)
    assert short_batch(images, local) == short
    steps = whole_batches + 1
    weights = torch.full((images,), images / (steps * batch_size))
    weights[-short:] = images / (steps * short)
    real = torch.zeros(5, dtype=torch.float64).index_add_(0, labels, weights.double())
    counts = round_weighted_counts(real, images, local)
    assert int(counts.sum()) == images
    assert int(counts.min()) >= 0


@pytest.mark.parametrize(("images", "batch_size", "local_lr"), [(9, 4, 0.001), (7, 3, 0.01), (11, 4, 0.01)])
@pytest.mark.parametrize("strategy", ["zero-shot", "verified"])
def test_labels_of_uneven_mini_batches(images: int, batch_size: int, local_lr: float, strategy: str) -> None:
    right = 0
    scenario = Scenario(
        composition="random", batch_size=images, mode="fedavg", local_batch_size=batch_size, local_lr=local_lr
    )
    for draw in range(5):
        case, truth = observe(scenario, draw=draw)
        found = infer_labels(case, strategy)
        assert not found.certified
        right += torch.equal(found.counts.cpu(), torch.bincount(truth.labels, minlength=10))
    assert right >= 4


def test_even_mini_batches_are_rounded_as_ever() -> None:
    local, real = LocalTraining(epochs=2, batch_size=4, lr=0.1), torch.tensor([1.6, 6.7, -0.3])
    assert round_weighted_counts(real, 8, local).tolist() == round_counts(real, 8).tolist()
    assert real.tolist() == torch.tensor([1.6, 6.7, -0.3]).tolist()
