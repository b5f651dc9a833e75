"""Same-label fusion: the batches that show it, what comes back of them, and sentences of their figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepleak_core.data.batches import load_batch
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import FinalScore, GroundTruthKnown, Snapshot, in_private_order, png
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario
from deepleak_core.studies import fusion
from tests.helpers import all_of, end_of, finished, only

BASE = Scenario(indices=(0, 1, 3, 4), max_iterations=200)
NAMES = tuple(f"class {n}" for n in range(10))


def labels_of(scenario: Scenario) -> list[int]:
    return load_batch(scenario).labels.tolist()


def score_of(events: list[Any]) -> FinalScore:
    """The score at the end of a run."""
    score = end_of(events).score
    assert score is not None
    return score


# ------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    "base", [BASE, Scenario(indices=(0, 1, 3, 10)), Scenario(batch_size=6), Scenario(composition="half", seed=3)]
)
def test_so_many_images_share_a_label(base: Scenario) -> None:
    for share in fusion.shares(base):
        scenario = fusion.same_label(base, share)
        counts = sorted(Counter(labels_of(scenario)).values())
        assert scenario.batch_size == base.batch_size
        assert counts == [1] * (base.batch_size - share) + [share]
        assert fusion.sharing(scenario) == share
        assert fusion.same_label(scenario, share) == scenario, "applied again, it changes nothing"


def test_a_batch_of_different_labels_stays_as_it_is() -> None:
    assert fusion.same_label(BASE, 1) == BASE


def test_more_images_of_a_class_than_there_are_cannot_share_a_label() -> None:
    with pytest.raises(UnsupportedScenario, match="ship"):
        fusion.same_label(BASE, 5)


def test_more_images_than_classes_cannot_have_labels_of_their_own() -> None:
    large = Scenario(batch_size=12, composition="random")
    assert fusion.shares(large).start == 5
    with pytest.raises(UnsupportedScenario, match="7 other classes"):
        fusion.same_label(large, 4)


def test_an_independent_start_leaves_every_other_setting() -> None:
    scenario = BASE.changed(setting=("solver=adam", "start=shared"))
    assert fusion.independently(scenario) == BASE.changed(setting=("solver=adam", "start=independent"))


def test_the_exact_attack_runs_with_its_own_settings() -> None:
    scenario = BASE.changed(
        attack="dlg", restarts=3, total_variation=0.1, prior=("l2=1",), setting=("feature_weight=1",), feature_term=True
    )
    assert fusion.separated(scenario) == Scenario(indices=BASE.indices, attack="exact")


# ------------------------------------------------------------------------------------------------ what comes back


@pytest.mark.slow
@pytest.mark.parametrize("share", [2, 4])
def test_a_shared_label_gives_one_blend_and_separation_undoes_it(share: int) -> None:
    scenario = fusion.same_label(BASE, share)
    fused, exact = (score_of(list(run(one))) for one in (scenario, fusion.separated(scenario)))
    assert fused.fused == (False,) * (4 - share) + (True,) * share
    for place in range(4 - share, 4):
        assert fused.psnr_to_mean[place] >= 30
        assert fused.psnr_to_mean[place] >= max(fused.psnr[place], fused.nearest_psnr[place]) + 8
    assert min([*fused.psnr[: 4 - share], 99]) > 30, "a label of its own protects no image"
    assert exact.fusion == 0
    assert min(exact.psnr) > 30


@pytest.mark.slow
def test_the_average_of_independent_starts_is_the_same_blend() -> None:
    events = list(run(fusion.independently(fusion.same_label(BASE, 4))))
    truth, last = only(GroundTruthKnown, events), all_of(Snapshot, events)[-1]
    (average,) = fusion.averages_to_mean(in_private_order(last.pictures(), last.score), truth).values()
    assert average > 35
    assert average > max(score_of(events).psnr_to_mean) + 15
    assert not any(score_of(events).fused)


# ------------------------------------------------------------------------------------------------------- pictures


def test_averages_are_compared_with_the_mean_of_their_class() -> None:
    def flat(value: float) -> bytes:
        return png(np.full((3, 8, 8), value, dtype=np.float32))

    truth = GroundTruthKnown(labels=(2, 5, 2), pictures=(flat(0.2), flat(0.0), flat(0.4)))
    averages = fusion.averages_to_mean([flat(0.0), flat(0.9), flat(0.8)], truth)
    assert averages == {2: pytest.approx(20.0, abs=0.1)}
    assert fusion.averages_to_mean([flat(0.1)], GroundTruthKnown(labels=(1,), pictures=(flat(0.3),))) == {}


# ------------------------------------------------------------------------------------------------------ sentences


def truth_of(*labels: int) -> GroundTruthKnown:
    grey = png(np.full((3, 8, 8), 0.5, dtype=np.float32))
    return GroundTruthKnown(labels=labels, pictures=(grey,) * len(labels))


BLEND = finished([16.0, 15.0, 38.0], psnr_to_mean=(35.0, 35.0, 38.0), nearest_psnr=(16.0, 16.0, 38.0),
                 fused=(True, True, False))  # fmt: skip
NOISE = finished([14.0, 13.0], psnr_to_mean=(18.0, 18.0), nearest_psnr=(14.0, 14.0), fused=(False, False))
COPIES = finished([120.0, 120.0], pixel_exact=(True, True))


def test_sentences_hold_the_figures() -> None:
    grey = truth_of(1, 1).pictures
    for sentence, facts in (
        (fusion.what_fused(BLEND, truth_of(1, 1, 2), NAMES), ("2 images", "both", "35", "16", "38")),
        (fusion.what_fused(NOISE, truth_of(1, 1), NAMES), ("2 images", "18 dB", "14 dB")),
        (fusion.what_fused(COPIES, truth_of(1, 2), NAMES), ("2 of 2", "120 dB")),
        (fusion.what_averaging_shows(NOISE, grey, truth_of(1, 1)), ("the 2", "18 dB", "120 dB")),
        (fusion.what_was_separated(NOISE, COPIES), ("all 2", "exact", "2.0 s")),
        (fusion.what_was_separated(COPIES, BLEND), ("23 dB", "120 dB", "15 dB", "2.0 s")),
    ):
        assert all(fact in sentence for fact in facts), sentence


def test_without_a_ground_truth_sentences_hold_the_residuals() -> None:
    good, bad = (replace(end, score=None) for end in (finished([1.0], 0.001), finished([1.0], 0.52)))
    for sentence in (
        fusion.what_fused(bad, None, NAMES),
        fusion.what_averaging_shows(bad, [], None),
        fusion.what_was_separated(bad, good),
    ):
        assert "52%" in sentence, sentence
        assert "dB" not in sentence, sentence


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), *[st.floats(0, 60)] * 3), min_size=1, max_size=5))
def test_every_end_gives_sentences(images: list[tuple[int, bool, float, float, float]]) -> None:
    labels, fused, psnr, to_mean, nearest = zip(*images, strict=True)
    end = finished(psnr, psnr_to_mean=to_mean, nearest_psnr=nearest, fused=fused)
    truth = truth_of(*labels)
    for sentence in (
        fusion.what_fused(end, truth, NAMES),
        fusion.what_averaging_shows(end, truth.pictures, truth),
        fusion.what_was_separated(end, end),
    ):
        assert sentence.endswith(".")
