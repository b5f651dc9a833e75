"""The exact attack as a whole: pixel-exact where its equations suffice, and a sentence where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deepleak_core.attack.run import reconstruct
from deepleak_core.data.batches import GroundTruth, load_batch
from deepleak_core.events import (
    Event,
    FeaturesSeparated,
    Finished,
    Snapshot,
    Stage,
    from_message,
    to_message,
)
from deepleak_core.features.separate import SOLVED_MISFIT
from deepleak_core.federated.case import Case
from deepleak_core.federated.models import build
from deepleak_core.federated.networks.lenet import lenet
from deepleak_core.federated.networks.network import Network
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario
from deepleak_core.scoring.score import scored
from tests.helpers import all_of, case_of, end_of, only, use_networks


def events_of(**values: Any) -> list[Event]:
    return list(run(Scenario(attack="exact", **values)))


def stages(events: list[Event]) -> list[str]:
    return [event.name for event in all_of(Stage, events)]


def score_of(events: list[Event]) -> Any:
    return end_of(events).score


# --------------------------------------------------------------------------------------------- exact copies


@pytest.mark.parametrize("model", ["lenet64-elu", "lenet64-relu"])
@pytest.mark.parametrize("indices", [(4, 5, 1, 2), (4, 5, 7, 19)])
def test_images_that_share_labels_come_back_pixel_by_pixel(model: str, indices: tuple[int, ...]) -> None:
    events = events_of(indices=indices, model=model)
    score = score_of(events)
    assert all(score.pixel_exact)
    assert score.max_error_8bit == (0,) * 4
    assert score.time_to["pixel_exact"] is not None
    assert stages(events)[:3] == ["Exact", "Features separated", "Pixels from layers"]


def test_distinct_images_come_back_pixel_by_pixel() -> None:
    assert all(score_of(events_of(indices=(0, 1, 3, 4))).pixel_exact)


def test_one_local_step_of_fedavg_is_as_good_as_a_gradient() -> None:
    assert all(score_of(events_of(indices=(4, 5), mode="fedavg", local_epochs=1, local_batch_size=2)).pixel_exact)


LOCAL_STEPS: dict[str, dict[str, Any]] = {
    "whole batches": {},
    "momentum": {"local_momentum": 0.9},
    "mini-batches": {"local_batch_size": 1, "local_order": "known"},
}


@pytest.mark.parametrize("client", LOCAL_STEPS.values(), ids=LOCAL_STEPS)
def test_several_local_steps_are_solved_pixel_by_pixel_and_certified(client: dict[str, Any]) -> None:
    events = events_of(indices=(4, 0), mode="fedavg", local_epochs=3, **client)
    end = end_of(events)
    assert all(score_of(events).pixel_exact)
    assert end.certified
    assert stages(events)[-3:] == ["Features not separated", "Full update matched", "Exact copy certified"]


def test_a_secret_order_of_mini_batches_leaves_a_residual_and_no_certificate() -> None:
    events = events_of(
        indices=(4, 0, 1, 3),
        mode="fedavg",
        local_epochs=3,
        local_batch_size=2,
        max_iterations=60,
        label_strategy="true",
    )
    end = end_of(events)
    assert "shuffles" in next(event.sentence for event in all_of(Stage, events) if event.name == "Assumption")
    assert not end.certified
    assert end.residual > 1e-4
    assert score_of(events).mean_psnr > 20, "steps on the mean over all images come close"


# ------------------------------------------------------------------------------------------ other networks

WITH_INVERSE: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "leaky ReLU": nn.LeakyReLU,
    "another ELU": lambda: nn.ELU(alpha=0.5),
}


def network(activation: Callable[[], nn.Module], *, known: bool = True) -> Network:
    """LeNet-64 with an activation; `known` says whether its registry entry names that."""
    features = activation() if known else None
    return Network(title="Test", summary="A test.", source="none", body=lenet(64, activation), features=features)


def case_and_truth(model: str, indices: tuple[int, ...] = (4, 5, 1), **changed: Any) -> tuple[Case, GroundTruth]:
    """A case of CIFAR-10 images with a network of the test."""
    truth = load_batch(Scenario(indices=indices))
    settings: dict[str, Any] = {"classes": 10, "image_size": 32, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return case_of(build(model, **(settings | changed)), truth.images, truth.labels), truth


@pytest.mark.parametrize("activation", WITH_INVERSE.values(), ids=WITH_INVERSE.keys())
def test_any_activation_of_the_table_is_solved(
    activation: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_networks(monkeypatch, test_network=network(activation))
    case, truth = case_and_truth("test-network")
    events = list(scored(reconstruct(case, "exact"), truth, mode="fedsgd"))
    assert all(score_of(events).pixel_exact)
    assert stages(events)[1:3] == ["Features separated", "Pixels from layers"]


def test_an_activation_that_is_not_in_the_table_is_matched_instead_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    use_networks(monkeypatch, test_network=network(nn.GELU, known=False))
    case, truth = case_and_truth("test-network")
    events = list(scored(reconstruct(case, "exact", iterations=60), truth, mode="fedsgd"))
    assert stages(events)[1:] == ["Features separated", "No invertible chain", "Full update matched"]
    reason = next(event.sentence for event in all_of(Stage, events) if event.name == "No invertible chain")
    assert "GELU" in reason
    assert "Tanh" in reason
    assert score_of(events).mean_psnr > 15


def test_greyscale_images_come_back_pixel_by_pixel() -> None:
    truth = load_batch(Scenario(indices=(4, 5, 1)))
    grey = GroundTruth((truth.images.mean(1, keepdim=True) * 255).round() / 255, *list(vars(truth).values())[1:])
    model = build("lenet64-elu", classes=10, image_size=32, mean=(0.5,), std=(0.25,))
    case = case_of(model, grey.images, grey.labels)
    events = list(scored(reconstruct(case, "exact"), grey, mode="fedsgd"))
    assert all(score_of(events).pixel_exact)
    assert all_of(Snapshot, events)[-1].images.shape == (3, 1, 32, 32)


def test_a_network_that_is_no_chain_is_matched_with_its_features() -> None:
    events = events_of(indices=(0, 4), model="resnet20", max_iterations=2)
    assert stages(events) == ["Exact", "Features separated", "No invertible chain", "Full update matched"]


# ------------------------------------------------------------------------------------ what is said on the way


def test_separated_features_are_reported_and_survive_messages() -> None:
    separated = only(FeaturesSeparated, events_of(indices=(4, 5, 7, 1), max_iterations=1))
    assert separated.labels == (6, 6, 6, 8)
    assert len(separated.before) == len(separated.after) == 16
    assert separated.before[1] == pytest.approx(1), "the mean of a class is the same for both of its images"
    assert abs(separated.after[1]) < 0.9
    assert separated.misfit < SOLVED_MISFIT
    packed = msgpack.unpackb(msgpack.packb(to_message(separated)))
    assert from_message(packed) == separated


def test_wrong_labels_leave_features_mixed_and_the_full_update_is_matched() -> None:
    events = events_of(indices=(0, 1, 3, 4), wrong_labels=1, max_iterations=5)
    assert stages(events) == ["Exact", "Features not separated", "Full update matched"]
    assert not any(score_of(events).pixel_exact)


def test_more_images_than_classes_fall_back_to_matching() -> None:
    events = events_of(indices=tuple(range(10)), max_iterations=3)
    assert stages(events) == ["Exact", "Features not separated", "Full update matched"]
    assert "at most 9" in all_of(Stage, events)[1].sentence


def test_steps_count_through_all_stages() -> None:
    steps = [event.step for event in all_of(Snapshot, events_of(indices=(0, 1, 3, 4)))]
    assert steps == sorted(set(steps))
    assert steps[0] == 0


def test_the_feature_term_helps_a_search_over_a_same_label_batch() -> None:
    def mean_psnr(feature_term: bool) -> float:
        *_, end = run(Scenario(indices=(4, 5, 7, 19), feature_term=feature_term, max_iterations=150))
        assert isinstance(end, Finished)
        assert end.score is not None
        return end.score.mean_psnr

    assert mean_psnr(True) > mean_psnr(False) + 3


def test_a_model_in_double_precision_is_attacked_in_double_precision() -> None:
    case, truth = case_and_truth("lenet64-elu")
    precise = case_of(case.model.double(), truth.images.double(), truth.labels)
    events = list(scored(reconstruct(precise, "exact", iterations=20), truth, mode="fedsgd"))
    assert torch.get_default_dtype() == torch.float32
    assert all(score_of(events).pixel_exact)


# ------------------------------------------------------------------------------------------ the certificate


def test_exact_copies_are_certified_without_the_ground_truth() -> None:
    case, _ = case_and_truth("lenet64-elu")
    *_, end = reconstruct(case, "exact")
    assert isinstance(end, Finished)
    assert end.certified
    assert "certified" in end.sentence


@settings(max_examples=6, deadline=None)
@given(
    st.sampled_from(["off the grid", "noise", "wrong label"]),
    st.floats(0.05, 0.45),
    st.lists(st.integers(0, 19), min_size=2, max_size=3, unique=True),
)
def test_nothing_else_is_certified(what: str, size: float, indices: list[int]) -> None:
    """Images between two 8-bit values, updates with noise, and wrong labels: there is no exact copy to certify."""
    truth = load_batch(Scenario(indices=tuple(indices)))
    model = build("lenet64-elu", classes=10, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    images, labels = truth.images, truth.labels
    if what == "off the grid":
        images = (images * 254 + size) / 255
    case = case_of(model, images, labels)
    if what == "noise":
        for tensor in case.update.tensors.values():
            tensor += 1e-3 * size * tensor.std() * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
    believed = sorted(labels.tolist())
    if what == "wrong label":
        believed = sorted([(believed[0] + 1) % 10, *believed[1:]])
    *_, end = reconstruct(case, "exact", labels=believed, iterations=20)
    assert isinstance(end, Finished)
    assert not end.certified
