"""Scores attached to the events of an attack, against figures worked out from its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.data.batches import GroundTruth
from deepleak_core.events import (
    Event,
    Finished,
    LabelsInferred,
    LabelsRevised,
    Snapshot,
    Stage,
    in_private_order,
)
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario
from deepleak_core.scoring.score import ORDER_ASSUMED, scored
from tests.helpers import all_of, end_of, only, random_images


def truth(images: Tensor, labels: Sequence[int]) -> GroundTruth:
    return GroundTruth(images, torch.tensor(labels), ("ant", "bee", "cat"), tuple(range(len(labels))))


def inferred(order: Sequence[int]) -> LabelsInferred:
    counts = tuple(list(order).count(label) for label in range(3))
    return LabelsInferred(
        strategy="idlg", evidence=(0.0,) * 3, real_counts=(0.0,) * 3, counts=counts, order=tuple(order),
        falsified=(), seconds=0.1,
    )  # fmt: skip


def snapshot(images: Tensor, seconds: float, order: Sequence[int]) -> Snapshot:
    return Snapshot(
        step=int(10 * seconds), seconds=seconds, loss=0.1, residual=0.2, labels=tuple(order), progress=0.5,
        images=images.numpy(),
    )  # fmt: skip


def events_of(pictures: Sequence[Tensor], order: Sequence[int], reason: Any = "iterations") -> Iterator[Event]:
    """An attack whose snapshots are these pictures, a second apart."""
    yield inferred(order)
    for second, images in enumerate(pictures):
        yield snapshot(images, float(second), order)
    yield Finished(reason=reason, sentence="As the attack says.", step=9, seconds=9.0, residual=0.2)


def scores_of(pictures: Sequence[Tensor], private: GroundTruth, order: Sequence[int], **values: Any) -> list[Event]:
    return list(scored(events_of(pictures, order, **values), private, mode="fedsgd"))


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(5)), st.integers(0, 99))
def test_images_in_any_order_are_matched_to_the_private_ones(order: list[int], seed: int) -> None:
    private = random_images(5, 3, 16, 16, seed=seed)
    events = scores_of([private[order]], truth(private, [0, 1, 1, 2, 2]), (0, 1, 1, 2, 2))
    end = end_of(events)
    assert end.score is not None
    assert all(end.score.pixel_exact)
    assert set(end.score.outcomes) == {"recovered"}
    shown = only(Snapshot, events)
    assert shown.score is not None
    assert np.array_equal(np.stack(in_private_order(list(shown.images), shown.score)), private.numpy())
    assert np.array_equal(shown.images, private[order].numpy()), "events keep the attacker's order"


def test_figures_are_those_of_the_pictures() -> None:
    private = random_images(3, 3, 16, 16)
    rebuilt = (private + 0.1 * random_images(3, 3, 16, 16, seed=1)).clamp(0, 1).flip(0)
    end = end_of(scores_of([rebuilt], truth(private, [0, 1, 2]), (0, 1, 2)))
    assert end.score is not None
    aligned = rebuilt.flip(0).numpy()
    mse = ((aligned - private.numpy()) ** 2).mean((1, 2, 3))
    assert end.score.places == (2, 1, 0)
    assert end.score.psnr == pytest.approx(-10 * np.log10(mse), rel=1e-4)
    assert end.score.mean_psnr == pytest.approx(np.mean(end.score.psnr))
    steps = np.abs((aligned * 255).round() - (private.numpy() * 255).round()).max((1, 2, 3))
    assert list(end.score.max_error_8bit) == steps.tolist()
    assert end.score.pixel_exact == (False,) * 3
    assert end.score.fusion is None
    assert end.score.psnr_to_mean == ()
    assert end.score.fused == ()
    grey = -10 * np.log10(((private.numpy() - 0.5) ** 2).mean((1, 2, 3)))
    assert end.score.grey_psnr == pytest.approx(np.mean(grey), abs=1e-3)


def test_the_times_are_those_at_which_every_image_had_got_there() -> None:
    private = (random_images(2, 3, 16, 16) * 255).round() / 255

    def near(*errors: float) -> Tensor:
        signs = torch.where(private < 0.5, 1.0, -1.0)
        return private + signs * torch.tensor(errors).view(2, 1, 1, 1)

    pictures = [near(0.2, 0.2), near(0.01, 0.2), near(0.05, 0.05), near(0.02, 0.03), near(0.2, 0.2), near(0, 0)]
    end = end_of(scores_of(pictures, truth(private, [0, 1]), (0, 1)))
    assert end.score is not None
    assert end.score.time_to == {"psnr20": 2.0, "psnr30": 3.0, "pixel_exact": 5.0}


def test_what_is_never_reached_has_no_time() -> None:
    private = random_images(2, 3, 16, 16)
    end = end_of(scores_of([random_images(2, 3, 16, 16, seed=1)], truth(private, [0, 1]), (0, 1)))
    assert end.score is not None
    assert set(end.score.time_to.values()) == {None}


def test_inferred_and_revised_labels_are_scored_and_deliberate_wrong_ones_do_not_count() -> None:
    private = truth(random_images(2, 3, 16, 16), [2, 0])
    right, wrong = inferred((0, 2)), inferred((0, 1))
    falsified = LabelsInferred(**{**vars(right), "order": (0, 1), "falsified": (1,)})
    revised = LabelsRevised(order=(0, 2), certified=True)
    events = list(scored(iter([right, wrong, falsified, revised]), private, mode="fedsgd"))
    assert [event.score.exact for event in events] == [True, False, True, True]  # type: ignore[union-attr]
    assert {event.score.true_counts for event in events} == {(1, 0, 1)}  # type: ignore[union-attr]


def test_other_events_pass_unchanged() -> None:
    stage = Stage(name="Anything", sentence="Something starts.")
    assert list(scored(iter([stage]), truth(random_images(1, 3, 16, 16), [0]), mode="fedsgd")) == [stage]


@pytest.mark.parametrize("reason", ["diverged", "vanished"])
def test_an_attack_that_failed_keeps_its_own_sentence_and_is_scored(reason: str) -> None:
    private = random_images(1, 3, 16, 16)
    end = end_of(scores_of([private], truth(private, [0]), (0,), reason=reason))
    assert end.sentence == "As the attack says."
    assert end.score is not None
    assert end_of(scores_of([private], truth(private, [0]), (0,))).sentence != end.sentence


# -------------------------------------------------------------------------------------------------- fusion


def test_a_blend_of_a_class_is_told_from_its_images() -> None:
    private = random_images(4, 3, 16, 16)
    mean = private[:3].mean(0)
    blend = torch.stack([mean, mean, private[1], private[3]])
    end = end_of(scores_of([blend], truth(private, [1, 1, 1, 2]), (1, 1, 1, 2)))
    assert end.score is not None
    assert end.score.fusion == pytest.approx(2 / 3)
    assert sum(end.score.fused) == 2
    assert not end.score.fused[3]
    assert len(end.score.psnr_to_mean) == 4


def test_a_result_close_to_another_image_of_its_class_is_no_blend() -> None:
    """Both results show the first image: the second is matched to the other image, yet it blends nothing."""
    private = random_images(2, 3, 16, 16)
    end = end_of(scores_of([torch.stack([private[0], private[0]])], truth(private, [1, 1]), (1, 1)))
    assert end.score is not None
    assert end.score.fusion == 0
    assert not any(end.score.fused)


@pytest.mark.parametrize("copies", [2, 3, 7])
@pytest.mark.parametrize("value", [1.0, 1 / 3, 0.1])
def test_equal_images_never_count_as_fused(copies: int, value: float) -> None:
    private = torch.full((copies, 3, 16, 16), value)
    for rebuilt in (private, private - 0.05, random_images(copies, 3, 16, 16)):
        end = end_of(scores_of([rebuilt], truth(private, [1] * copies), (1,) * copies))
        assert end.score is not None
        assert end.score.fusion == 0
        assert not any(end.score.fused)
        assert "blend" not in end.sentence


def test_noise_is_not_called_a_blend() -> None:
    """Two iterations of an attack on two ships leave noise, which is closer to the mean of any class."""
    *_, end = run(Scenario(indices=(1, 2), max_iterations=2))
    assert isinstance(end, Finished)
    assert end.score is not None
    assert max(end.score.psnr_to_mean) < 13
    assert not any(end.score.fused)
    assert "blend" not in end.sentence
    assert "fuse" not in end.sentence


def test_scores_of_snapshots_and_of_the_end_agree() -> None:
    events = list(run(Scenario(indices=(4, 5, 0), max_iterations=3)))
    shown, end = all_of(Snapshot, events)[-1], end_of(events)
    assert shown.score is not None
    assert end.score is not None
    for name in ("places", "psnr", "psnr_to_mean", "fusion"):
        assert getattr(shown.score, name) == getattr(end.score, name)


@pytest.mark.parametrize(("local_batch_size", "assumed"), [(2, True), (3, True), (4, False)])
@pytest.mark.parametrize("local_order", ["unknown", "known"])
def test_an_outcome_names_the_order_as_assumed_only_where_it_was(
    local_batch_size: int, assumed: bool, local_order: str
) -> None:
    client = {"local_batch_size": local_batch_size, "local_order": local_order}
    end = end_of(list(run(Scenario(mode="fedavg", indices=(4, 0, 1, 3), max_iterations=2, **client))))
    assert end.score is not None
    assert (ORDER_ASSUMED in end.sentence) == (assumed and local_order == "unknown")
