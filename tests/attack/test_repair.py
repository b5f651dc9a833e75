"""Label repair: which labels are doubted, which exchanges are tried, what is certified, and when labels are kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepleak_core.attack.repair import EXCHANGES, PATIENCE, exchanges, in_words, is_uncertain, search_and_repair
from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import LABELS_CHANGED, Event, LabelsInferred, LabelsRevised, Snapshot, Stage
from deepleak_core.federated.case import observe
from deepleak_core.labels.evidence import Knowledge
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario
from tests.helpers import all_of, only

BATCH = (0, 1, 3, 4)
TRUE = (0, 3, 6, 8)


def events_of(**settings: Any) -> list[Event]:
    return list(run(Scenario(indices=BATCH, **settings)))


def names_of_stages(events: list[Any]) -> list[str]:
    return [event.name for event in all_of(Stage, events)]


def test_a_wrong_label_is_noticed_certified_and_corrected() -> None:
    events = events_of(wrong_labels=1, repair_labels=True, max_iterations=2 * PATIENCE + 30)
    inferred, revised = only(LabelsInferred, events), only(LabelsRevised, events)
    assert revised.certified
    assert revised.order == TRUE != inferred.order
    assert revised.score is not None
    assert revised.score.exact
    assert names_of_stages(events).count(LABELS_CHANGED) == 1
    before = [e.residual for e in all_of(Snapshot, events) if e.step < revised.step]
    after = [e.residual for e in all_of(Snapshot, events) if e.step > revised.step + 50]
    assert min(after) < min(before) / 3


def test_snapshots_carry_the_labels_after_the_repair() -> None:
    events = events_of(wrong_labels=1, repair_labels=True, max_iterations=PATIENCE + 5)
    assert all_of(Snapshot, events)[-1].labels == TRUE


@pytest.mark.slow
def test_where_nothing_can_be_certified_exchanges_are_tried() -> None:
    events = events_of(wrong_labels=1, repair_labels=True, mode="fedavg", local_epochs=5, max_iterations=8 * PATIENCE)
    revised = only(LabelsRevised, events)
    assert "Another label tried" in names_of_stages(events)
    assert not revised.certified
    assert revised.order == TRUE


def test_several_wrong_labels_are_corrected_at_once() -> None:
    assert only(LabelsRevised, events_of(wrong_labels=3, repair_labels=True, max_iterations=PATIENCE + 2)).order == TRUE


@pytest.mark.parametrize(
    "settings",
    [
        {"wrong_labels": 1},  # on purpose: kept unless asked otherwise
        {},  # certain counts
        {"stage": "late", "repair_labels": False},
        {"stage": "late", "attack": "inverting-gradients"},
    ],
)
def test_labels_are_kept(settings: dict[str, Any]) -> None:
    assert not all_of(LabelsRevised, events_of(**settings, max_iterations=PATIENCE + 2))


def test_uncertain_labels_of_a_trained_network_are_repaired_by_default() -> None:
    events = events_of(stage="late", max_iterations=PATIENCE + 2)
    inferred = only(LabelsInferred, events)
    assert inferred.score is not None
    assert not inferred.score.exact
    assert only(LabelsRevised, events).order == TRUE


def test_right_labels_are_not_changed() -> None:
    assert not all_of(LabelsRevised, events_of(repair_labels=True, max_iterations=PATIENCE + 2))


# ------------------------------------------------------------------------------- a search that never gets closer


def stuck(labels: Sequence[int]) -> Iterator[Iterate]:
    """A search that leaves half of the update unmatched, whatever the labels."""
    for step in range(2 * PATIENCE):
        yield Iterate(
            step=step, inputs=torch.zeros(1), loss=0.5, residuals=torch.tensor([0.5]), gradient=1.0, progress=0.0
        )


def known(stop: Callable[[], bool] = lambda: False, **settings: Any) -> Knowledge:
    case, _ = observe(Scenario(indices=BATCH, **settings))
    return Knowledge(case=case, stop=stop)


CLASSES = [f"class {n}" for n in range(10)]


def test_certified_labels_are_kept_however_stuck_the_search_is() -> None:
    events = list(search_and_repair(stuck, known(), TRUE, CLASSES))
    assert names_of_stages(events) == ["The residual is stuck", "The labels are right"]
    iterates = all_of(Iterate, events)
    assert len(iterates) == 2 * PATIENCE, "the search goes on"
    assert {iterate.labels for iterate in iterates} == {TRUE}


def test_labels_are_kept_where_no_exchange_helps() -> None:
    events = list(search_and_repair(stuck, known(mode="fedavg", local_epochs=5), TRUE, CLASSES))
    tried = ["Another label tried"] * EXCHANGES
    assert names_of_stages(events) == ["The residual is stuck", *tried, "No better labels"]
    assert not all_of(LabelsRevised, events)


def test_iterates_carry_the_labels_that_they_were_searched_under() -> None:
    events = list(search_and_repair(stuck, known(mode="fedavg", local_epochs=5), TRUE, CLASSES))
    orders = [labels for labels, _ in itertools.groupby(iterate.labels for iterate in all_of(Iterate, events))]
    assert orders[0] == orders[-1] == TRUE
    assert len(set(orders)) == 1 + EXCHANGES


def test_exchanges_end_with_the_time() -> None:
    asked = itertools.count()
    late = known(lambda: next(asked) > 0, mode="fedavg", local_epochs=5)
    assert names_of_stages(list(search_and_repair(stuck, late, TRUE, CLASSES))) == ["The residual is stuck"]


# ------------------------------------------------------------------------------------------------- exchanges


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.lists(st.lists(st.floats(-2, 4), min_size=5, max_size=5), min_size=1, max_size=2),
)
def test_exchanges_are_the_nearest_of_all(believed: list[int], real: list[list[float]]) -> None:
    estimates = [torch.tensor(counts, dtype=torch.float64) for counts in real]

    def distance(order: list[int]) -> float:
        counts = torch.bincount(torch.tensor(order), minlength=5)
        return min(float((estimate - counts).abs().sum()) for estimate in estimates)

    every = {
        tuple(sorted([*believed[:place], new, *believed[place + 1 :]]))
        for place in range(len(believed))
        for new in set(range(5)) - {believed[place]}
    }
    found = exchanges(believed, estimates)
    assert len(set(map(tuple, found))) == len(found) == min(EXCHANGES, len(every))
    assert set(map(tuple, found)) <= every
    nearest = sorted(distance(list(order)) for order in every)[:EXCHANGES]
    assert [distance(order) for order in found] == pytest.approx(nearest)


def test_a_label_of_any_class_can_be_taken_back() -> None:
    """A wrong label of a class that no estimate shows, in a batch whose estimates are off elsewhere."""
    estimate = torch.zeros(100)
    estimate[:20] = 1.0
    estimate[3], estimate[4] = 0.4, 1.6
    believed = [*range(19), 77]  # 77 in place of 19
    assert list(range(20)) in exchanges(believed, [estimate])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 4), st.data())
def test_a_change_in_words_names_exactly_the_classes_that_differ(labels: list[int], new: int, data: Any) -> None:
    place = data.draw(st.integers(0, len(labels) - 1))
    changed = [*labels[:place], new, *labels[place + 1 :]]
    names = ["ant", "bee", "cat", "dog", "eel"]
    words = in_words(labels, changed, names)
    for label, name in enumerate(names):
        assert (name in words) == (labels.count(label) != changed.count(label))


def test_certified_counts_are_never_uncertain() -> None:
    counts = (1.0, 0.0, 2.0)
    inferred = LabelsInferred(
        strategy="zero-shot", evidence=counts, real_counts=counts, counts=(1, 0, 2), order=(0, 2, 2), falsified=(),
        seconds=0.0,
    )  # fmt: skip
    assert not is_uncertain(inferred)
    shifted = replace(inferred, real_counts=(1.4, 0.0, 1.6))
    assert is_uncertain(shifted)
    assert not is_uncertain(replace(shifted, certified=True))
