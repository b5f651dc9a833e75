"""Label strategies: the rules against their definitions, and on real updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepleak_core.errors import UnsupportedScenario, UnusableUpdate
from deepleak_core.federated.case import Case, observe
from deepleak_core.federated.client import ClientUpdate, share
from deepleak_core.federated.models import MODELS
from deepleak_core.labels import ilrg as ilrg_module
from deepleak_core.labels.evidence import Knowledge
from deepleak_core.labels.gradinversion import gradinversion
from deepleak_core.labels.idlg import idlg
from deepleak_core.labels.ilrg import ilrg
from deepleak_core.labels.llg import llg
from deepleak_core.labels.strategies import STRATEGIES, infer_labels
from deepleak_core.labels.zero_shot import zero_shot
from deepleak_core.scenario import Scenario

# ------------------------------------------------------------------------------------------- real updates


def inferred(scenario: Scenario, strategy: str) -> tuple[list[int], list[int]]:
    """Counts as inferred and as they are."""
    case, truth = observe(scenario)
    found = infer_labels(case, strategy, seed=scenario.seed_for("labels"))
    assert int(found.counts.sum()) == scenario.batch_size
    return found.counts.tolist(), torch.bincount(truth.labels, minlength=len(truth.class_names)).tolist()


BATCHES: dict[str, dict[str, Any]] = {
    "distinct": {"indices": (0, 1, 3, 4)},
    "a pair": {"indices": (0, 1, 4, 5)},
    "one class": {"indices": (4, 5, 7, 19)},
    "more images than classes": {"indices": tuple(range(20))},
}
SLOW_MODELS = ["convnet", "resnet18"]
QUICK_MODELS = [name for name in MODELS if name not in SLOW_MODELS]


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("model", QUICK_MODELS)
def test_zero_shot_is_exact_on_untrained_networks(model: str, batch: dict[str, Any]) -> None:
    found, true = inferred(Scenario(model=model, **batch), "zero-shot")
    assert found == true


def test_zero_shot_is_exact_on_a_wide_untrained_network() -> None:
    found, true = inferred(Scenario(model="convnet", **BATCHES["a pair"]), "zero-shot")
    assert found == true


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("model", ["mobilenet-v2", "lenet64-elu"])
def test_zero_shot_needs_no_bias(model: str, batch: dict[str, Any]) -> None:
    found, true = inferred(Scenario(model=model, head_bias=False, **batch), "zero-shot")
    assert found == true


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("model", ["resnet20", "lenet64-relu"])
def test_zero_shot_reads_weights_as_well(model: str, batch: dict[str, Any]) -> None:
    found, true = inferred(Scenario(model=model, mode="fedavg", local_epochs=5, **batch), "zero-shot")
    assert found == true


def test_zero_shot_reads_weights_without_a_bias() -> None:
    scenario = Scenario(indices=(0, 1, 4, 5), model="lenet64-relu", mode="fedavg", head_bias=False)
    found, true = inferred(scenario, "zero-shot")
    assert found == true


def test_a_hundred_classes() -> None:
    found, true = inferred(Scenario(dataset="cifar100-samples", indices=tuple(range(20))), "zero-shot")
    assert found == true
    assert max(true) > 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("index", range(4))
def test_every_strategy_gets_a_single_image_right(strategy: str, index: int) -> None:
    found, true = inferred(Scenario(indices=(index,), model="lenet64-relu"), strategy)
    assert found == true


def test_gradinversion_finds_distinct_labels_and_no_others() -> None:
    found, true = inferred(Scenario(indices=(0, 1, 3, 4)), "gradinversion")
    assert found == true
    found, true = inferred(Scenario(indices=(4, 5, 7, 19)), "gradinversion")
    assert max(found) == 1
    assert max(true) == 4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batches_beyond_the_number_of_classes_break_nothing(strategy: str) -> None:
    found, _ = inferred(Scenario(indices=tuple(range(20))), strategy)
    assert len(found) == 10


# --------------------------------------------------------------------------------- the formulas, piece by piece


def rows(weight: list[list[float]], bias: list[float] | None, images: int) -> Knowledge:
    """The last layer's gradient alone, as far as the rules without a model look."""
    gradient = {"head.weight": torch.tensor(weight)} | ({} if bias is None else {"head.bias": torch.tensor(bias)})
    case, _ = observe(Scenario(model="lenet", indices=(0,)))
    return Knowledge(case=replace(case, update=ClientUpdate(tensors=gradient, batch_size=images)))


def test_zero_shots_formula_is_exact_once_the_probabilities_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """K mean(p) - K grad_b is the counts, real-valued, when p is the batch's own and not the noise's."""
    case, truth = observe(Scenario(indices=(0, 4, 5, 7, 1)))
    with torch.no_grad():
        own = case.model(truth.images).double().softmax(1).mean(0)
    monkeypatch.setattr(Knowledge, "noise_response", (own, torch.ones(case.model.head.in_features).double()))
    found = zero_shot(Knowledge(case=case))
    assert torch.allclose(found.real_counts, torch.bincount(truth.labels, minlength=10).double(), atol=1e-5)


def test_without_a_bias_the_formula_is_exact_for_equal_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image under five labels: mean((p - y) f) . f / |f|^2 is mean(p - y)."""
    case, batch = observe(Scenario(indices=(0,), head_bias=False))
    images, truth = batch.images.expand(5, -1, -1, -1), torch.tensor([2, 2, 0, 9, 2])
    with torch.no_grad():
        own = case.model(images).double().softmax(1).mean(0)
        features = case.model.features(images).double().mean(0)
    monkeypatch.setattr(Knowledge, "noise_response", (own, features))
    found = zero_shot(Knowledge(case=replace(case, update=share(case.model, images, truth))))
    assert torch.allclose(found.real_counts, torch.bincount(truth, minlength=10).double(), atol=1e-4)


@pytest.mark.parametrize(
    ("bias", "weight", "images", "counts"),
    [
        ([0.2, -0.5, 0.3], [[0.0]] * 3, 1, [0, 1, 0]),
        ([-0.1, -0.5, 0.6], [[0.0]] * 3, 2, [1, 1, 0]),
        ([-0.1, -0.5, 0.6], [[0.0]] * 3, 4, [1, 3, 0]),  # what is left over goes to the strongest
        (None, [[0.3, 0.1], [-0.9, 0.2], [0.5, 0.5]], 1, [0, 1, 0]),  # row sums stand for the bias
    ],
)
def test_idlg_takes_negative_gradients(
    bias: list[float] | None, weight: list[list[float]], images: int, counts: list[int]
) -> None:
    found = idlg(rows(weight, bias, images))
    assert found.counts.tolist() == counts


@pytest.mark.parametrize(("images", "counts"), [(1, [0, 0, 1]), (2, [1, 0, 1]), (3, [1, 1, 1]), (7, [2, 2, 3])])
def test_gradinversion_ranks_the_smallest_entries(images: int, counts: list[int]) -> None:
    weight = [[0.9, -0.2], [0.1, -0.1], [-0.3, 0.9]]
    assert gradinversion(rows(weight, None, images)).counts.tolist() == counts


@pytest.mark.parametrize(
    ("sums", "images", "counts"),
    [
        # Noise: p = 1/4 each, features of sum 2; so an image lowers its row by 2 * 3/4 * 5/4 / K, all raise it by 1/2.
        ([-0.3, -0.2, 0.4, 0.4], 2, [1, 1, 0, 0]),  # who is negative is there once
        ([-0.9, 0.4, 0.4, 0.4], 2, [2, 0, 0, 0]),  # -0.9 + 0.94 - 0.5 is still the lowest
        ([-0.9, -0.2, 0.4, 0.4], 4, [3, 1, 0, 0]),  # impact 0.47: -0.93, -0.23 once both are there, then -0.46, -0.23
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_llg_takes_off_one_impact_after_the_other(
    monkeypatch: pytest.MonkeyPatch, sums: list[float], images: int, counts: list[int], sign: int
) -> None:
    """Where the features' sum is negative, as it may be after ELU, rows sum up to the opposite sign."""
    noise = torch.full((4,), 0.25).double(), torch.full((2,), float(sign)).double()
    monkeypatch.setattr(Knowledge, "noise_response", noise)
    weight = [[sign * row / 2] * 2 for row in sums]
    assert llg(rows(weight, None, images)).counts.tolist() == counts


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(any), st.integers(0, 10_000))
def test_ilrg_is_exact_once_predictions_are(counts: list[int], seed: int) -> None:
    """Images of class i predicted P_i: K mean(p) = P^T counts, and K grad_b = P^T counts - counts."""
    true, images = torch.tensor(counts).double(), sum(counts)
    generator = torch.Generator().manual_seed(seed)
    predictions = (2 * torch.randn(4, 4, generator=generator)).double().softmax(1)
    bias = (predictions.T @ true - true) / images
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ilrg_module, "class_predictions", lambda _: predictions)
        found = ilrg(rows([[0.0]] * 4, bias.tolist(), images))
    assert torch.allclose(found.real_counts, true, atol=1e-4)
    assert torch.equal(found.counts, true.long())


def test_an_unknown_strategy_is_refused() -> None:
    case, _ = observe(Scenario(indices=(0,), model="lenet"))
    with pytest.raises(UnsupportedScenario) as refusal:
        infer_labels(case, "guess")
    assert str(refusal.value) == f"label_strategy was 'guess'; accepted are {', '.join(STRATEGIES)}, true."


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_update_without_information_is_refused(strategy: str, value: float) -> None:
    case, _ = observe(Scenario(indices=(0, 4), model="lenet"))
    tensors = {name: torch.full_like(tensor, value) for name, tensor in case.update.tensors.items()}
    with pytest.raises(UnusableUpdate):
        infer_labels(replace(case, update=replace(case.update, tensors=tensors)), strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_float64_model_gives_the_same_counts(strategy: str) -> None:
    case, truth = observe(Scenario(indices=(0, 4, 5, 7), model="lenet64-relu"))
    model = case.model.double()
    double = Case(
        model=model,
        update=share(model, truth.images.double(), truth.labels),
        class_names=case.class_names,
        image_shape=case.image_shape,
        trained=case.trained,
    )
    single, _ = observe(Scenario(indices=(0, 4, 5, 7), model="lenet64-relu"))
    found, reference = infer_labels(double, strategy), infer_labels(single, strategy)
    assert torch.equal(found.counts, reference.counts)
    assert found.certified == reference.certified


@pytest.mark.parametrize("indices", [range(4), range(20)], ids=["fewer images than classes", "more"])
def test_verified_always_has_a_confidence(indices: Sequence[int]) -> None:
    case, _ = observe(Scenario(indices=tuple(indices), model="lenet64-elu", stage="late"))
    found = infer_labels(case)
    assert found.confidence is not None
    assert found.note
    assert found.confidence.shape == (10,)
    assert found.confidence.min() >= 0
    assert found.confidence.max() <= 1
    assert int(found.counts.sum()) == len(indices)
    assert found.certified == (len(indices) < 10) == bool((found.confidence == 1).all())
