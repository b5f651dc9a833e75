"""What is read of a run is read once for all viewers."""

from __future__ import annotations

import time

import pytest

from deepleak_core.runs.run import run
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from ui import records, tracks
from ui.backend import REDRAW_SECONDS
from ui.live import watch

SCENARIO = Scenario(indices=(0, 3), model="lenet", max_iterations=3)


@pytest.fixture
def run_id(store: Store) -> str:
    created = store.create(SCENARIO, this_process())
    store.start(created)
    store.append(created, [event for event in run(SCENARIO) if type(event).__name__ != "Finished"])
    return created


def test_viewers_who_look_at_the_same_time_share_one_look(run_id: str, queries: list[str]) -> None:
    looks = [records.glance(run_id) for _ in range(50)]
    assert looks[0] is not None
    assert looks[0].events > 3
    assert len(queries) < 25, "a busy machine may need longer than one look is valid"


def test_a_moment_is_made_once_for_all_viewers(store: Store, run_id: str, queries: list[str]) -> None:
    record = store.run(run_id)
    assert record is not None
    first = tracks.live_frame(record)
    asked = len(queries)
    assert first is not None
    assert tracks.live_frame(record) is first
    assert len(queries) == asked


def test_a_new_event_is_seen_by_all(store: Store, run_id: str) -> None:
    record = store.run(run_id)
    assert record is not None
    first = tracks.live_frame(record)
    store.append(run_id, [event for event in run(SCENARIO.changed(seed=1)) if type(event).__name__ == "Snapshot"])
    again = store.run(run_id)
    assert again is not None
    newer = tracks.live_frame(again)
    assert first is not None
    assert newer is not None
    assert newer is not first
    assert len(newer.curve) > len(first.curve)


def test_a_moment_is_encoded_once_for_all_viewers(store: Store, run_id: str, queries: list[str]) -> None:
    record = store.run(run_id)
    assert record is not None
    first = watch.newest(record, hidden=False)
    asked = len(queries)
    assert watch.newest(record, hidden=False) is first
    assert len(queries) == asked
    (private, *_), (placeholders, *_) = first.still["columns"], watch.newest(record, hidden=True).still["columns"]
    assert len(private["pictures"]) == 2
    assert not placeholders["pictures"], "who hides the private images does not get those of others"
    store.append(run_id, [event for event in run(SCENARIO.changed(seed=1)) if type(event).__name__ == "Snapshot"])
    time.sleep(REDRAW_SECONDS)
    again = store.run(run_id)
    assert again is not None
    newer = watch.newest(again, hidden=False)
    (before,), (after,) = (found.news["tracks"].values() for found in (first, newer))
    assert len(after["live"]["curve"]) > len(before["live"]["curve"])
