"""The preset `exact`, whole: pixel-exact where it promises to be, honest where it is not."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
import torch

from deepleak_core.attack.exact import _what_separated
from deepleak_core.events import (
    Event,
    FeaturesSeparated,
    Finished,
    Snapshot,
    Stage,
    from_message,
    to_message,
)
from deepleak_core.features.separate import SOLVED, Disaggregation
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario


def told(**values: object) -> list[Event]:
    return list(run(Scenario(attack="exact", **values)))


def stages(story: list[Event]) -> list[str]:
    return [event.name for event in story if isinstance(event, Stage)]


def finished(story: list[Event]) -> Finished:
    assert isinstance(story[-1], Finished)
    return story[-1]


@pytest.mark.parametrize("model", ["lenet64-elu", "lenet64-relu"])
@pytest.mark.parametrize("indices", [(4, 5, 1, 2), (4, 5, 7, 19)])
def test_images_that_share_labels_come_back_pixel_by_pixel(model: str, indices: tuple[int, ...]) -> None:
    story = told(indices=indices, model=model)
    end = finished(story)
    assert all(end.pixel_exact)
    assert end.max_error_8bit == (0,) * 4
    assert end.time_to["pixel_exact"] is not None
    assert (
        end.sentence
        == "Every pixel of all 4 private images was recovered from the shared gradient alone: an exact copy."
    )
    assert stages(story)[:3] == ["Exact", "Features separated", "Pixels from layers"]
    first = next(event for event in story if isinstance(event, Stage))
    assert first.sentence == "The last layer's part of the shared gradient is taken apart, image by image."


def test_distinct_images_come_back_pixel_by_pixel() -> None:
    assert all(finished(told(indices=(0, 1, 3, 4))).pixel_exact)


def test_one_local_step_of_fedavg_is_as_good_as_a_gradient() -> None:
    end = finished(told(indices=(4, 5), mode="fedavg", local_epochs=1, local_batch_size=2))
    assert all(end.pixel_exact)


def test_separated_features_are_told_and_survive_the_wire() -> None:
    story = told(indices=(4, 5, 7, 1), max_iterations=1)
    (separated,) = [event for event in story if isinstance(event, FeaturesSeparated)]
    assert separated.labels == (6, 6, 6, 8)
    assert len(separated.before) == len(separated.after) == 16
    assert separated.before[1] == pytest.approx(1)  # two frogs are one to who sees their sum
    assert abs(separated.after[1]) < 0.9
    assert separated.misfit < SOLVED
    wire = msgpack.unpackb(msgpack.packb(to_message(separated)))
    assert from_message(wire) == separated


def test_features_are_no_proof_while_an_image_is_lost_in_rounding() -> None:
    features = torch.rand(2, 5).double()
    found = Disaggregation(
        features=features, labels=torch.tensor([0, 0]), signals=features, misfit=1.0, residual=0.0,
        errors=torch.ones(2), singular_values=torch.tensor([1.0, 0.1, 1e-6]),
    )  # fmt: skip
    assert _what_separated(found).endswith("The label counts are proven by it.")
    faint = replace(found, singular_values=torch.tensor([1.0, 2e-6, 1e-6]))
    assert _what_separated(faint).endswith("An image is lost in rounding: nothing is proven.")


def test_a_wrong_label_keeps_features_mixed_and_is_said_to() -> None:
    story = told(indices=(0, 1, 3, 4), wrong_labels=1, max_iterations=5)
    assert stages(story) == ["Exact", "Features stay mixed", "Full update matched"]
    (reason,) = [event.sentence for event in story if isinstance(event, Stage) and "mixed" in event.name]
    assert "a label count is wrong" in reason
    assert not any(finished(story).pixel_exact)


def test_more_images_than_classes_fall_back_to_matching() -> None:
    story = told(indices=tuple(range(10)), max_iterations=3)
    (reason,) = [event.sentence for event in story if isinstance(event, Stage) and "mixed" in event.name]
    assert "at most 9 can be told apart" in reason
    assert stages(story)[-1] == "Full update matched"


def test_a_network_that_is_no_chain_is_matched_with_its_features() -> None:
    story = told(indices=(0, 4), model="resnet20", max_iterations=2)
    assert stages(story) == ["Exact", "Features separated", "No way down", "Full update matched"]


def test_steps_count_through_all_stages() -> None:
    steps = [event.step for event in told(indices=(0, 1, 3, 4)) if isinstance(event, Snapshot)]
    assert steps == sorted(set(steps))
    assert steps[0] == 0


def test_the_feature_term_helps_a_search_over_a_same_label_batch() -> None:
    def mean_psnr(feature_term: bool) -> float:
        scenario = Scenario(indices=(4, 5, 7, 19), feature_term=feature_term, max_iterations=150)
        end = list(run(scenario))[-1]
        assert isinstance(end, Finished)
        return sum(end.psnr) / 4

    assert mean_psnr(True) > mean_psnr(False) + 3
