"""What strategies read, and the rounding of real-valued counts."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.federated.case import observe
from deepleak_core.labels.evidence import Knowledge, known_labels, labels_of, round_counts
from deepleak_core.scenario import Scenario


def greedy(real: list[float], total: int) -> list[float]:
    """What the paper's rule leaves, sorted: the largest remaining estimate is taken, `total` times."""
    remaining = list(real)
    for _ in range(total):
        remaining[max(range(len(real)), key=lambda i: remaining[i])] -= 1
    return sorted(remaining)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12), st.integers(0, 80))
def test_rounding_leaves_what_the_greedy_rule_leaves(real: list[float], total: int) -> None:
    counts = round_counts(torch.tensor(real, dtype=torch.float64), total).tolist()
    assert sum(counts) == total
    assert min(counts) >= 0
    remaining = sorted(r - c for r, c in zip(real, counts, strict=True))
    assert remaining == pytest.approx(greedy(real, total), abs=1e-6)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=12), st.integers(0, 300))
def test_rounding_gives_as_many_as_asked_whatever_the_estimates(real: list[float], total: int) -> None:
    counts = round_counts(torch.tensor(real, dtype=torch.float64), total)
    assert int(counts.sum()) == total
    assert int(counts.min()) >= 0


@pytest.mark.parametrize(
    ("real", "counts"),
    [
        ([float("inf"), 3.0, 0.0], [4, 0, 0]),
        ([1e300, 1e200, 0.0], [4, 0, 0]),
        ([float("nan"), 3.0, 1.0], [0, 3, 1]),
        ([float("-inf"), -7.0, -5.0], [0, 1, 3]),
    ],
)
def test_rounding_estimates_out_of_all_bounds(real: list[float], counts: list[int]) -> None:
    assert round_counts(torch.tensor(real, dtype=torch.float64), 4).tolist() == counts


def test_rounding_takes_at_once_what_is_surely_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """For thousands of images only ties are left to be taken one by one."""
    taken = []
    argmax = Tensor.argmax
    monkeypatch.setattr(Tensor, "argmax", lambda self, *a, **k: taken.append(1) or argmax(self, *a, **k))
    real = torch.rand(100, generator=torch.Generator().manual_seed(0)).double() * 80
    assert int(round_counts(real, 4096).sum()) == 4096
    assert len(taken) <= 100


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any))
def test_integers_are_left_as_they_are(counts: list[int]) -> None:
    assert round_counts(torch.tensor(counts).double(), sum(counts)).tolist() == counts


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_labels_name_each_class_as_often_as_counted(counts: list[int]) -> None:
    named = labels_of(torch.tensor(counts))
    assert named == sorted(named)
    assert Counter(named) == {c: n for c, n in enumerate(counts) if n}


def test_known_labels_are_counted() -> None:
    found = known_labels(torch.tensor([2, 2, 0]), 4)
    assert found.counts.tolist() == found.real_counts.tolist() == [1, 0, 2, 0]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_the_same_seed_feeds_the_same_noise(seed: int) -> None:
    case, _ = observe(Scenario(indices=(0, 4), model="lenet"))
    first, second = (Knowledge(case=case, seed=seed).noise_response for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not case.model.head._forward_pre_hooks, "a hook was left behind"


def test_the_response_to_noise_is_the_networks_own() -> None:
    """Probabilities and features (C,) and (D,) of the network that was sent, and for FedAvg of both."""
    single, _ = observe(Scenario(indices=(0, 4), model="lenet"))
    trained, _ = observe(Scenario(indices=(0, 4), model="lenet", mode="fedavg", local_epochs=5, local_lr=0.1))
    p, features = Knowledge(case=single).noise_response
    assert p.shape == (10,)
    assert float(p.sum()) == pytest.approx(1)
    assert features.shape == (768,)
    assert not torch.equal(p, Knowledge(case=trained).noise_response[0])
