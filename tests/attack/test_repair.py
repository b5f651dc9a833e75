"""An attack that notices wrong labels: what it doubts, what it tries, what it proves, and when it leaves them alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepleak_core.attack.repair import EXCHANGES, PATIENCE, _exchanges, _told_apart, is_uncertain, search_and_repair
from deepleak_core.attack.solvers import Iterate
from deepleak_core.data.batches import load_batch
from deepleak_core.events import Event, Finished, LabelsInferred, LabelsRevised, Snapshot, Stage
from deepleak_core.federated import client
from deepleak_core.federated.case import local_training_of, target_model
from deepleak_core.labels.strategies import Knowledge
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario

BATCH = (0, 1, 3, 4)


def story(**settings: Any) -> list[Event]:
    return list(run(Scenario(indices=BATCH, **settings)))


def only(events: list[Event], kind: type) -> Any:
    (event,) = [event for event in events if isinstance(event, kind)]
    return event


def test_a_wrong_label_is_noticed_proven_and_put_right() -> None:
    events = story(wrong_labels=1, repair_labels=True, max_iterations=2 * PATIENCE + 30)
    inferred, revised = only(events, LabelsInferred), only(events, LabelsRevised)
    assert revised.proven and sorted(revised.order) == [0, 3, 6, 8] != sorted(inferred.order)
    (changed,) = [e for e in events if isinstance(e, Stage) and e.name == "Labels changed"]
    assert "ship 1 instead of" in changed.sentence
    before = [e.residual for e in events if isinstance(e, Snapshot) and e.step < revised.step]
    after = [e.residual for e in events if isinstance(e, Snapshot) and e.step > revised.step + 50]
    assert min(after) < min(before) / 3
    assert only(events, Finished).sentence.endswith("The attack changed its labels, rightly.")


def test_the_pictures_carry_the_labels_as_they_are_after_the_repair() -> None:
    events = story(wrong_labels=1, repair_labels=True, max_iterations=PATIENCE + 5)
    assert sorted([e for e in events if isinstance(e, Snapshot)][-1].labels) == [0, 3, 6, 8]


def test_without_proof_exchanges_are_tried_and_told() -> None:
    events = story(wrong_labels=1, repair_labels=True, mode="fedavg", local_epochs=5, max_iterations=8 * PATIENCE)
    tried = [e for e in events if isinstance(e, Stage) and e.name == "Another label tried"]
    revised = only(events, LabelsRevised)
    assert tried and "unexplained" in tried[0].sentence
    assert not revised.proven and sorted(revised.order) == [0, 3, 6, 8]


def test_several_wrong_labels_are_put_right_at_once() -> None:
    revised = only(story(wrong_labels=3, repair_labels=True, max_iterations=PATIENCE + 2), LabelsRevised)
    assert sorted(revised.order) == [0, 3, 6, 8]


@pytest.mark.parametrize(
    "settings",
    [
        {"wrong_labels": 1},  # on purpose: left alone unless asked
        {},  # certain counts
        {"stage": "late", "repair_labels": False},
        {"stage": "late", "attack": "inverting-gradients"},
    ],
)
def test_labels_are_left_alone(settings: dict[str, Any]) -> None:
    events = story(**settings, max_iterations=PATIENCE + 2)
    assert not [event for event in events if isinstance(event, LabelsRevised)]


def test_uncertain_labels_of_a_trained_network_are_repaired_unasked() -> None:
    events = story(stage="late", max_iterations=PATIENCE + 2)
    assert not only(events, LabelsInferred).exact
    assert sorted(only(events, LabelsRevised).order) == [0, 3, 6, 8]


def test_right_labels_are_not_changed() -> None:
    events = story(repair_labels=True, max_iterations=PATIENCE + 2)
    assert not [event for event in events if isinstance(event, LabelsRevised)]


def stuck(labels: Sequence[int]) -> Iterator[Iterate]:
    """A search that leaves half of the update unexplained, whatever the labels."""
    for step in range(2 * PATIENCE):
        yield Iterate(
            step=step, inputs=torch.zeros(1), loss=0.5, residuals=torch.tensor([0.5]), gradient=1.0, progress=0.0
        )


def known(stop: Callable[[], bool] = lambda: False, **settings: Any) -> Knowledge:
    scenario = Scenario(indices=BATCH, **settings)
    batch, model = load_batch(scenario), target_model(scenario)
    update = client.share(model, batch.images, batch.labels, local_training_of(scenario))
    return Knowledge.of(model, update, image_size=scenario.image_size, seed=0, stop=stop)


def names_of_stages(told: Iterable[Any]) -> list[str]:
    return [event.name for event in told if isinstance(event, Stage)]


CLASSES = [f"class {n}" for n in range(10)]


def test_labels_that_are_proven_are_kept_however_stuck_the_search_is() -> None:
    told = list(search_and_repair(stuck, known(), [0, 3, 6, 8], CLASSES))
    assert names_of_stages(told) == ["The residual is stuck", "The labels are right"]
    assert len([event for event in told if isinstance(event, Iterate)]) == 2 * PATIENCE, "the search goes on"


def test_where_nothing_helps_every_exchange_was_tried_and_labels_stay() -> None:
    local = {"mode": "fedavg", "local_epochs": 5}
    told = list(search_and_repair(stuck, known(**local), [0, 3, 6, 8], CLASSES))
    tried = ["Another label tried"] * EXCHANGES
    assert names_of_stages(told) == ["The residual is stuck", *tried, "No better labels"]
    assert not [event for event in told if isinstance(event, LabelsRevised)]


def test_no_more_is_said_of_exchanges_once_time_is_up() -> None:
    asked = itertools.count()
    late = known(lambda: next(asked) > 0, mode="fedavg", local_epochs=5)
    assert names_of_stages(search_and_repair(stuck, late, [0, 3, 6, 8], CLASSES)) == ["The residual is stuck"]


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
    found = _exchanges(believed, estimates)
    assert len(set(map(tuple, found))) == len(found) == min(EXCHANGES, len(every))
    assert set(map(tuple, found)) <= every
    nearest = sorted(distance(list(order)) for order in every)[:EXCHANGES]
    assert [distance(order) for order in found] == pytest.approx(nearest)


def test_a_label_of_any_class_can_be_taken_back() -> None:
    """A wrong label of a class that no estimate sees, in a batch whose estimates are off elsewhere."""
    estimate = torch.zeros(100)
    estimate[:20] = 1.0
    estimate[3], estimate[4] = 0.4, 1.6
    believed = [*range(19), 77]  # 77 in place of 19
    assert list(range(20)) in _exchanges(believed, [estimate])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 4), st.data())
def test_what_is_told_apart_names_exactly_the_classes_that_differ(labels: list[int], new: int, data: Any) -> None:
    place = data.draw(st.integers(0, len(labels) - 1))
    changed = [*labels[:place], new, *labels[place + 1 :]]
    names = ["ant", "bee", "cat", "dog", "eel"]
    told = _told_apart(labels, changed, names)
    for label, name in enumerate(names):
        assert (name in told) == (labels.count(label) != changed.count(label))


def test_proven_counts_are_never_uncertain() -> None:
    inferred = only(story(max_iterations=1), LabelsInferred)
    doubtful = torch.tensor(inferred.real_counts) + 0.4
    assert not is_uncertain(inferred)
    shifted = LabelsInferred(**{**vars(inferred), "real_counts": tuple(doubtful.tolist())})
    assert is_uncertain(shifted)
    assert not is_uncertain(LabelsInferred(**{**vars(shifted), "proven": True}))
