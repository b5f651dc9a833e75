"""Comparisons: the scenarios that show each finding, the findings themselves, and sentences of their figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepleak_core.data.batches import load_batch
from deepleak_core.events import (
    LABELS_CHANGED,
    Event,
    FinalScore,
    Finished,
    LabelScore,
    LabelsInferred,
    Stage,
)
from deepleak_core.federated.case import target_model
from deepleak_core.federated.client import mean_gradient, weights_of
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario
from deepleak_core.studies import comparisons
from deepleak_core.studies.fusion import same_label, shares
from tests.helpers import end_of, finished, only

BASE = Scenario(indices=(0, 1, 3, 4), max_iterations=200)


def labels_of(scenario: Scenario) -> list[int]:
    return load_batch(scenario).labels.tolist()


def score_of(scenario: Scenario) -> FinalScore:
    """The score at the end of a run."""
    score = end_of(list(run(scenario))).score
    assert score is not None
    return score


@pytest.fixture(scope="module")
def right() -> FinalScore:
    return score_of(BASE)


# ---------------------------------------------------------------------------------------------- one wrong label


@pytest.mark.parametrize("indices", [(0, 1, 3, 4), (4, 5, 0, 1), (8, 9, 12, 15), (4, 5, 7, 19)])
def test_the_worst_wrong_label_changes_the_last_layer_most(indices: tuple[int, ...]) -> None:
    scenario = Scenario(indices=indices)
    batch, model = load_batch(scenario), target_model(scenario)
    before, after = comparisons.worst_swap(scenario).split(">")
    absent = batch.class_names.index(after)
    assert absent not in batch.labels

    def change(image: int) -> float:
        labels = batch.labels.clone()
        labels[image] = absent
        shared, wrong = (
            mean_gradient(model, weights_of(model), batch.images, y)["head.weight"] for y in (batch.labels, labels)
        )
        return float((shared - wrong).norm())

    counts = Counter(batch.labels.tolist())
    candidates = [i for i, label in enumerate(batch.labels.tolist()) if counts[label] == 1] or range(len(indices))
    assert before == batch.class_names[batch.labels[max(candidates, key=change)]]


@pytest.mark.slow
def test_one_wrong_label_spoils_every_image(right: FinalScore) -> None:
    _, scenario = comparisons.wrong_label(BASE, comparisons.worst_swap(BASE))
    wrong = score_of(scenario)
    assert right.mean_psnr - wrong.mean_psnr > 10
    assert min(np.subtract(right.psnr, wrong.psnr)) > 3


def test_without_a_swap_the_seed_decides() -> None:
    assert comparisons.wrong_label(BASE) == (BASE, BASE.changed(wrong_labels=1))
    assert comparisons.wrong_label(BASE, "cat>dog") == (BASE, BASE.changed(mislabel=("cat>dog",)))


def test_the_sweep_goes_from_no_wrong_label_to_all() -> None:
    sweep = comparisons.wrong_label_sweep(BASE.changed(mislabel=("cat>dog",)))
    assert [scenario.wrong_labels for scenario in sweep] == [0, 1, 2, 3, 4]
    assert all(scenario.mislabel is None and scenario.indices == BASE.indices for scenario in sweep)


# ------------------------------------------------------------------------------------------------ GradInversion


def test_gradinversions_labels_fail_where_zero_shot_is_exact() -> None:
    scenario = same_label(BASE.changed(max_iterations=1), 2)
    right = []
    for one in comparisons.compared(scenario):
        events: list[Event] = list(run(one))
        inferred = only(LabelsInferred, events)
        assert inferred.strategy == ("gradinversion" if one.attack == "gradinversion" else "zero-shot")
        right.append(comparisons.labels_right(inferred))
    assert right == [3, 4]


def test_both_attacks_run_on_every_distribution_of_labels() -> None:
    scenarios = comparisons.over_label_distributions(BASE)
    assert [scenario.attack for scenario in scenarios[:2]] == list(comparisons.COMPARED)
    assert len(scenarios) == 2 * len(shares(BASE))
    assert all(a.indices == b.indices for a, b in zip(scenarios[::2], scenarios[1::2], strict=True))
    batches = [load_batch(scenario).labels.tolist() for scenario in scenarios[::2]]
    assert [batch.count(batches[-1][0]) for batch in batches] == list(shares(BASE)), "of one class throughout"


# ---------------------------------------------------------------------------------------------------- sentences


def unknown(end: Finished) -> Finished:
    return replace(end, score=None)


def inferred(counts: tuple[int, ...], true: tuple[int, ...] | None) -> LabelsInferred:
    score = None if true is None else LabelScore(true_counts=true, exact=counts == true)
    return LabelsInferred(
        strategy="idlg", evidence=(), real_counts=(), counts=counts, order=(), falsified=(), seconds=0.0, score=score
    )


LOST = "not recovered"
GOOD, BAD = finished([31.0, 29.0], 0.001), finished([12.0, 28.0], 0.52, fusion=0.5, outcomes=(LOST, LOST))
STAGE = Stage(name=LABELS_CHANGED, sentence="deer changed to ship: certified by the last layer.")


def test_sentences_hold_the_figures() -> None:
    for sentence, facts in (
        (
            comparisons.what_it_cost(GOOD, BAD, "ship>deer"),
            ("ship", "deer", "every image", "10 dB", "0 of 2", "2 of 2"),
        ),
        (comparisons.what_it_cost(GOOD, finished([10.0, 10.0], outcomes=("recovered", LOST))), ("1 of 2", "2 of 2")),
        (comparisons.what_the_sweep_says([GOOD, BAD]), ("0 to 1", "30, 20", "12 dB")),
        (comparisons.what_was_repaired(BAD, GOOD, [STAGE]), ("deer changed to ship", "2 of 2", "0 of 2")),
        (comparisons.what_was_repaired(BAD, BAD, []), ("0 of 2", "52%")),
        (comparisons.what_the_distributions_say([GOOD, BAD, BAD, GOOD]), ("30, 20", "20, 30")),
        (
            comparisons.what_differs((inferred((1, 1), (2, 0)), BAD), (inferred((2, 0), (2, 0)), GOOD)),
            ("1 of 2", "2 of 2", "20", "30"),
        ),
    ):
        assert all(fact in sentence for fact in facts), sentence


def test_without_a_ground_truth_sentences_hold_the_residuals() -> None:
    good, bad = unknown(GOOD), unknown(BAD)
    for sentence in (
        comparisons.what_it_cost(good, bad),
        comparisons.what_the_sweep_says([good, bad]),
        comparisons.what_was_repaired(bad, good, []),
        comparisons.what_the_distributions_say([good, bad]),
        comparisons.what_differs((inferred((1, 1), None), bad), (inferred((2, 0), None), good)),
    ):
        assert "52%" in sentence, sentence
        assert "0.1%" in sentence, sentence
        assert "dB" not in sentence, sentence
    assert comparisons.labels_right(inferred((1, 1), None)) == 0


def test_a_sweep_without_results_yet_says_nothing() -> None:
    assert comparisons.what_the_sweep_says([]) == comparisons.what_the_distributions_say([]) == ""


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), min_size=1, max_size=5), st.booleans())
def test_every_pair_of_ends_gives_a_sentence(pairs: list[tuple[float, float]], known: bool) -> None:
    first, second = (finished(side) for side in zip(*pairs, strict=True))
    second = second if known else unknown(second)
    assert comparisons.what_it_cost(first, second).endswith(".")
