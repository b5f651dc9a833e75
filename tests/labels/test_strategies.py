"""Label inference: the arithmetic against its definition, the strategies against real updates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.data.batches import load_batch
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated.case import local_training_of, target_model
from deepleak_core.federated.client import ClientUpdate, LocalTraining, share
from deepleak_core.federated.models import MODELS
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.labels import strategies as labels
from deepleak_core.labels.strategies import STRATEGIES, Evidence, Knowledge, infer, order, round_counts
from deepleak_core.labels.wrong_labels import falsify
from deepleak_core.scenario import Scenario

# ------------------------------------------------------------------------------------------------- arithmetic


def greedy(real: Sequence[float], total: int) -> list[int]:
    """The paper's rule word by word: the largest remaining estimate is taken, `total` times."""
    remaining, counts = list(real), [0] * len(real)
    for _ in range(total):
        top = max(range(len(real)), key=lambda i: remaining[i])
        remaining[top] -= 1
        counts[top] += 1
    return counts


@given(st.lists(st.integers(-40, 400), min_size=1, max_size=12), st.integers(0, 60))
def test_rounding_is_the_greedy_rule(eighths: list[int], total: int) -> None:
    """Where estimates tie, another class may get the image: so what remains is compared, not who got it."""
    real = [value / 8 for value in eighths]
    counts = round_counts(torch.tensor(real), total).tolist()
    assert sum(counts) == total and min(counts) >= 0
    remains = sorted(r - c for r, c in zip(real, counts, strict=True))
    assert remains == sorted(r - c for r, c in zip(real, greedy(real, total), strict=True))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any))
def test_integers_are_left_as_they_are(counts: list[int]) -> None:
    assert round_counts(torch.tensor(counts).double(), sum(counts)).tolist() == counts


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_order_names_each_class_as_often_as_counted(counts: list[int]) -> None:
    named = order(torch.tensor(counts))
    assert named == sorted(named)
    assert Counter(named) == {c: n for c, n in enumerate(counts) if n}


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9), st.integers(0, 9), st.integers(0, 2**31))
def test_falsifying_replaces_as_many_labels_as_asked(believed: list[int], wrong: int, seed: int) -> None:
    wrong = min(wrong, len(believed))
    changed, places = falsify(believed, wrong, 7, seed=seed)
    assert changed == sorted(changed) and len(changed) == len(believed)
    assert (changed != sorted(believed)) == (wrong > 0), "a wrong label always shows"
    untouched = Counter(believed) & Counter(changed)
    if len(set(believed)) < 7:
        assert len(set(places)) == wrong == len(believed) - untouched.total()
    assert all(0 <= label < 7 for label in changed)
    assert falsify(believed, wrong, 7, seed=seed) == (changed, places)
    kept = Counter(label for place, label in enumerate(changed) if place not in places)
    assert kept <= Counter(believed), "a label that is not marked as wrong is none of the believed ones"
    fresh = [changed[place] for place in places]
    if len(set(believed)) + wrong <= 7:
        assert not set(fresh) & set(believed), "a class of the batch was taken though others were free"
        assert len(set(fresh)) == wrong


def test_any_label_may_be_the_wrong_one() -> None:
    missing = [{0, 1, 2, 3} - set(falsify([0, 1, 2, 3], 1, 10, seed=seed)[0]) for seed in range(40)]
    assert {label for labels in missing for label in labels} == {0, 1, 2, 3}


def test_labels_handed_over() -> None:
    found = labels.given(torch.tensor([2, 2, 0]), 4)
    assert found.counts.tolist() == found.real_counts.tolist() == [1, 0, 2, 0]


# ------------------------------------------------------------------------------------------- real updates


def inferred(scenario: Scenario, strategy: str) -> tuple[list[int], list[int]]:
    """Counts as inferred and as they are."""
    batch, model = load_batch(scenario), target_model(scenario)
    update = share(model, batch.images, batch.labels, local_training_of(scenario))
    found = infer(model, update, strategy=strategy, image_size=scenario.image_size, seed=scenario.seed_for("labels"))
    assert not model.head._forward_pre_hooks, "a hook was left behind"
    assert int(found.counts.sum()) == scenario.batch_size
    return found.counts.tolist(), torch.bincount(batch.labels, minlength=len(batch.class_names)).tolist()


BATCHES: dict[str, dict[str, Any]] = {
    "distinct": {"indices": (0, 1, 3, 4)},
    "a pair": {"indices": (0, 1, 4, 5)},
    "one class": {"indices": (4, 5, 7, 19)},
    "more images than classes": {"indices": tuple(range(20))},
}
SMALL_MODELS = [name for name in MODELS if name != "resnet18"]


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("model", SMALL_MODELS)
def test_zero_shot_is_exact_on_untrained_networks(model: str, batch: dict[str, Any]) -> None:
    found, true = inferred(Scenario(model=model, **batch), "zero-shot")
    assert found == true


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("model", ["convnet", "lenet64-elu"])
def test_zero_shot_needs_no_bias(model: str, batch: dict[str, Any]) -> None:
    found, true = inferred(Scenario(model=model, head_bias=False, **batch), "zero-shot")
    assert found == true


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("model", ["resnet20", "lenet64-relu"])
def test_zero_shot_reads_weights_as_well(model: str, batch: dict[str, Any]) -> None:
    found, true = inferred(Scenario(model=model, mode="fedavg", local_epochs=5, **batch), "zero-shot")
    assert found == true


def test_zero_shot_reads_weights_without_a_bias() -> None:
    scenario = Scenario(indices=(0, 1, 4, 5), model="convnet", mode="fedavg", head_bias=False)
    found, true = inferred(scenario, "zero-shot")
    assert found == true


def test_a_hundred_classes() -> None:
    found, true = inferred(Scenario(dataset="cifar100-samples", indices=tuple(range(20))), "zero-shot")
    assert found == true and max(true) > 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("index", range(4))
def test_every_strategy_gets_a_single_image_right(strategy: str, index: int) -> None:
    found, true = inferred(Scenario(indices=(index,), model="lenet64-relu"), strategy)
    assert found == true


def test_gradinversion_finds_distinct_labels_and_no_others() -> None:
    found, true = inferred(Scenario(indices=(0, 1, 3, 4)), "gradinversion")
    assert found == true
    found, true = inferred(Scenario(indices=(4, 5, 7, 19)), "gradinversion")
    assert max(found) == 1 and max(true) == 4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batches_beyond_the_number_of_classes_break_nothing(strategy: str) -> None:
    found, _ = inferred(Scenario(indices=tuple(range(20))), strategy)
    assert len(found) == 10


# --------------------------------------------------------------------------------- the formulas, piece by piece


def test_zero_shots_formula_is_exact_once_the_probabilities_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """K mean(p) - K grad_b is the counts, real-valued, when p is the batch's own and not the noise's."""
    scenario = Scenario(indices=(0, 4, 5, 7, 1))
    batch, model = load_batch(scenario), target_model(scenario)
    with torch.no_grad():
        own = model(batch.images).double().softmax(1).mean(0)
    monkeypatch.setattr(labels, "noise_moments", lambda *_: (own, torch.ones(model.head.in_features).double()))
    found = infer(model, share(model, batch.images, batch.labels), strategy="zero-shot", image_size=32)
    true = torch.bincount(batch.labels, minlength=10)
    assert torch.allclose(found.real_counts, true.double(), atol=1e-5)


def test_without_a_bias_the_formula_is_exact_for_equal_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image under five labels: mean((p - y) f) . f / |f|^2 is mean(p - y)."""
    scenario = Scenario(indices=(0,), head_bias=False)
    images, model = load_batch(scenario).images.expand(5, -1, -1, -1), target_model(scenario)
    truth = torch.tensor([2, 2, 0, 9, 2])
    with torch.no_grad():
        own = model(images).double().softmax(1).mean(0)
        features = model.features(images).double().mean(0)
    monkeypatch.setattr(labels, "noise_moments", lambda *_: (own, features))
    found = infer(model, share(model, images, truth), strategy="zero-shot", image_size=32)
    assert torch.allclose(found.real_counts, torch.bincount(truth, minlength=10).double(), atol=1e-4)


def knowledge(weight: list[list[float]], bias: list[float] | None, images: int) -> Knowledge:
    """The last layer's gradient alone, as far as the rules without a model look."""
    gradient: dict[str, Tensor] = {"head.weight": torch.tensor(weight)}
    model: TargetModel = target_model(Scenario(model="lenet"))
    return Knowledge(
        model=model,
        update=ClientUpdate(tensors=gradient, batch_size=images),
        weight=torch.tensor(weight).double(),
        bias=None if bias is None else torch.tensor(bias).double(),
        image_size=32,
        seed=0,
    )


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
    found: Evidence = labels.idlg(knowledge(weight, bias, images))
    assert found.counts.tolist() == counts


@pytest.mark.parametrize(("images", "counts"), [(1, [0, 0, 1]), (2, [1, 0, 1]), (3, [1, 1, 1]), (7, [2, 2, 3])])
def test_gradinversion_ranks_the_smallest_entries(images: int, counts: list[int]) -> None:
    weight = [[0.9, -0.2], [0.1, -0.1], [-0.3, 0.9]]
    assert labels.gradinversion(knowledge(weight, None, images)).counts.tolist() == counts


@pytest.mark.parametrize(
    ("rows", "images", "counts"),
    [
        # Noise: p = 1/4 each, features of sum 2; so an image lowers its row by 2 * 3/4 * 5/4 / K, all raise it by 1/2.
        ([-0.3, -0.2, 0.4, 0.4], 2, [1, 1, 0, 0]),  # who is negative is there once
        ([-0.9, 0.4, 0.4, 0.4], 2, [2, 0, 0, 0]),  # -0.9 + 0.94 - 0.5 is still the lowest
        ([-0.9, -0.2, 0.4, 0.4], 4, [3, 1, 0, 0]),  # impact 0.47: -0.93, -0.23 once both are there, then -0.46, -0.23
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_llg_takes_off_one_impact_after_the_other(
    monkeypatch: pytest.MonkeyPatch, rows: list[float], images: int, counts: list[int], sign: int
) -> None:
    """Where the features' sum is negative, as it may be after ELU, rows sum up to the opposite sign."""
    noise = torch.full((4,), 0.25).double(), torch.full((2,), float(sign)).double()
    monkeypatch.setattr(labels, "noise_moments", lambda *_: noise)
    weight = [[sign * row / 2] * 2 for row in rows]
    assert labels.llg(knowledge(weight, None, images)).counts.tolist() == counts


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(any), st.integers(0, 10_000))
def test_ilrg_is_exact_once_predictions_are(counts: list[int], seed: int) -> None:
    """Images of class i predicted P_i: K mean(p) = P^T counts, and K grad_b = P^T counts - counts."""
    true, images = torch.tensor(counts).double(), sum(counts)
    generator = torch.Generator().manual_seed(seed)
    predictions = (2 * torch.randn(4, 4, generator=generator)).double().softmax(1)
    bias = (predictions.T @ true - true) / images
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "class_predictions", lambda *_: (bias, predictions))
        found = labels.ilrg(knowledge([[0.0]] * 4, bias.tolist(), images))
    assert torch.allclose(found.real_counts, true, atol=1e-4)
    assert torch.equal(found.counts, true.long())


@given(st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(any), st.floats(0.3, 1.0))
@settings(max_examples=20, deadline=None)
def test_balanced_is_exact_where_errors_spread_evenly(counts: list[int], errors: float) -> None:
    true, images = torch.tensor(counts).double(), sum(counts)
    predictions = (1 - errors) * torch.eye(4).double() + errors / 4
    bias = predictions.T @ true / images - true / images
    if bias.abs().max() < 1e-9:
        return  # as many of each class: nothing can be seen of the errors, and nothing need be
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "class_predictions", lambda *_: (bias, predictions))
        found = labels.balanced(knowledge([[0.0]] * 4, bias.tolist(), images))
    assert torch.allclose(found.real_counts, true, atol=1e-6)
    assert torch.equal(found.counts, true.long())


@given(st.floats(-3, 9), st.floats(0, 5))
def test_certainties_of_all_integers_sum_to_one(real: float, spread: float) -> None:
    counts = torch.arange(-60, 70).double()
    chances = labels.certainty(torch.tensor(real).double(), counts, torch.tensor(spread).double())
    assert chances.min() >= 0
    assert float(chances.sum()) == pytest.approx(1)
    assert float((counts[chances.argmax()] - real).abs()) <= 0.5 + 1e-6, "the nearest integer is the likeliest"


@pytest.mark.parametrize("indices", [range(4), range(20)], ids=["fewer images than classes", "more"])
def test_verified_always_says_how_sure_it_is(indices: Sequence[int]) -> None:
    scenario = Scenario(indices=tuple(indices), model="lenet64-elu", stage="late")
    batch, model = load_batch(scenario), target_model(scenario)
    found = infer(model, share(model, batch.images, batch.labels), strategy="verified", image_size=32)
    assert found.confidence is not None and found.note
    assert found.confidence.shape == (10,) and found.confidence.min() >= 0 and found.confidence.max() <= 1
    assert int(found.counts.sum()) == len(indices)
    assert found.proven == (len(indices) < 10) == bool((found.confidence == 1).all())


@pytest.mark.parametrize(("stage", "alike"), [("untrained", True), ("late", False)])
@pytest.mark.parametrize("model", ["lenet64-elu", "resnet20"])
def test_untrained_networks_predict_alike(model: str, stage: str, alike: bool) -> None:
    scenario = Scenario(indices=(0,), model=model, stage=stage)
    batch, target = load_batch(scenario), target_model(scenario)
    known = Knowledge.of(target, share(target, batch.images, batch.labels), image_size=32, seed=0)
    assert labels.predicts_alike(known) == alike


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_update_of_no_numbers_breaks_no_strategy(strategy: str) -> None:
    """Local training at too large a rate ends there."""
    scenario = Scenario(indices=(0, 4), model="lenet")
    batch, model = load_batch(scenario), target_model(scenario)
    update = share(model, batch.images, batch.labels)
    tensors = {name: torch.full_like(tensor, torch.nan) for name, tensor in update.tensors.items()}
    for local in (None, LocalTraining(epochs=5, batch_size=2, lr=1e9)):
        broken = ClientUpdate(tensors=tensors, batch_size=2, local=local)
        found = infer(model, broken, strategy=strategy, image_size=32)
        assert int(found.counts.sum()) == 2 and not found.proven
        assert found.confidence is None or not found.confidence.any()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_the_same_seed_feeds_the_same_noise(seed: int) -> None:
    scenario = Scenario(indices=(0, 4), model="lenet")
    batch, model = load_batch(scenario), target_model(scenario)
    update = share(model, batch.images, batch.labels)
    first, second = (infer(model, update, strategy="zero-shot", image_size=32, seed=seed) for _ in range(2))
    assert torch.equal(first.real_counts, second.real_counts)


def test_a_strategy_nobody_knows() -> None:
    model = target_model(Scenario(model="lenet"))
    batch = load_batch(Scenario(indices=(0,)))
    with pytest.raises(UnsupportedScenario) as refusal:
        infer(model, share(model, batch.images, batch.labels), strategy="guess", image_size=32)
    assert str(refusal.value) == f"label_strategy was 'guess'; accepted are {', '.join(STRATEGIES)}, true."
