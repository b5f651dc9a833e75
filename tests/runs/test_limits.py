"""Caps of a server: attacks end at them, batches above them are refused."""

from __future__ import annotations

import pickle

import pytest

from deepleak_core.errors import OutOfMemory, UnsupportedScenario
from deepleak_core.events import Finished, Snapshot
from deepleak_core.runs.limits import Limits
from deepleak_core.runs.tasks import Attack
from deepleak_core.scenario import Scenario

SMALL = Scenario(indices=(0, 3), model="lenet")


def end(scenario: Scenario, limits: Limits) -> Finished:
    last = list(pickle.loads(pickle.dumps(Attack(scenario, limits))).run())[-1]
    assert isinstance(last, Finished)
    return last


def test_an_attack_ends_at_the_iterations_of_the_server() -> None:
    for asked in (None, 10**6, 7):
        assert end(SMALL.changed(max_iterations=asked), Limits(iterations=7)).step == 7
    assert end(SMALL.changed(max_iterations=3), Limits(iterations=7)).step == 3


def test_an_attack_ends_at_the_seconds_of_the_server() -> None:
    long = SMALL.changed(max_iterations=10**6, attack="dlg")
    finished = end(long, Limits(seconds=0.5))
    assert finished.reason == "seconds"
    assert finished.step < 10**6


def test_a_cap_above_the_attacks_own_limit_changes_nothing() -> None:
    assert Limits(iterations=10**6).capped(SMALL) == SMALL
    assert Limits().capped(SMALL) == SMALL
    assert Limits(seconds=9).capped(SMALL.changed(max_seconds=3)).max_seconds == 3


def test_a_scenario_that_asks_for_more_is_lowered_and_that_is_said() -> None:
    limits = Limits(seconds=300, iterations=1000)
    assert limits.lowered(SMALL) == (SMALL, [])
    lowered, words = limits.lowered(SMALL.changed(max_seconds=301, max_iterations=10**5))
    assert (lowered.max_seconds, lowered.max_iterations) == (300, 1000)
    assert ["301" in words[0], "100,000" in words[1], len(words)] == [True, True, 2]


def test_an_attack_keeps_no_more_pictures_than_the_server_allows() -> None:
    def snapshots(megabytes: float | None) -> list[Snapshot]:
        events = Attack(SMALL.changed(max_seconds=2), Limits(pictures_mb=megabytes)).run()
        return [event for event in events if isinstance(event, Snapshot)]

    assert len(snapshots(None)) > 5
    few = snapshots(0.02)
    assert len(few) > 2
    assert sum(snapshot.images.size for snapshot in few[:-1]) <= 20_000


def test_a_batch_that_is_too_large_is_refused() -> None:
    Attack(SMALL, Limits(batch_size=2)).check()
    with pytest.raises(UnsupportedScenario, match="batch_size was 2; this server attacks batches of 1 images at most"):
        Attack(SMALL, Limits(batch_size=1)).check()


def test_an_attack_that_needs_more_memory_than_allowed_is_refused_before_it_begins() -> None:
    large = Scenario(composition="distinct", batch_size=8, image_size=64)
    with pytest.raises(OutOfMemory, match=r"needs about .* GB, this server allows 0\.0 GB"):
        list(Attack(large, Limits(memory_mb=1)).run())
