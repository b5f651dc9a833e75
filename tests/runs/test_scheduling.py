"""Runs that share a worker: each gets its share of the time, and the same result as by itself."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from deepleak_core.events import Event, Finished, Snapshot
from deepleak_core.runs.run import run
from deepleak_core.runs.scheduling import in_turn, side_by_side
from deepleak_core.scenario import Scenario

SCENARIOS = (
    Scenario(indices=(0, 1, 4), max_iterations=60),
    Scenario(indices=(4, 5, 7), max_iterations=60, attack="gradinversion", restarts=2),
    Scenario(indices=(0, 4), max_iterations=12, attack="exact"),
)


def events_of(place: int, events: list[tuple[int, Event]]) -> list[Event]:
    return [event for at, event in events if at == place]


def psnr_of(events: list[Event]) -> tuple[float, ...]:
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.score is not None
    return finished.score.psnr


def last_images(events: list[Event]) -> np.ndarray:
    return [event for event in events if isinstance(event, Snapshot)][-1].images


def test_runs_side_by_side_rebuild_the_same_images_as_alone() -> None:
    together = list(side_by_side([run(scenario) for scenario in SCENARIOS]))
    for place, scenario in enumerate(SCENARIOS):
        alone, beside = list(run(scenario)), events_of(place, together)
        assert np.array_equal(last_images(beside), last_images(alone))
        assert isinstance(beside[-1], Finished)
        assert isinstance(alone[-1], Finished)
        assert (psnr_of(beside), beside[-1].residual) == (psnr_of(alone), alone[-1].residual)


def test_the_run_with_the_least_attack_time_goes_on() -> None:
    """Neither run is ever ahead by more than the time from one event of its own to the next."""
    seconds, longest, going = [0.0, 0.0], [0.0, 0.0], {0, 1}
    for place, event in side_by_side([run(scenario) for scenario in SCENARIOS[:2]]):
        now = getattr(event, "seconds", 0.0)
        longest[place] = max(longest[place], now - seconds[place])
        seconds[place] = now
        if isinstance(event, Finished):
            going.discard(place)
        if len(going) == 2:
            assert seconds[0] - seconds[1] <= longest[0]
            assert seconds[1] - seconds[0] <= longest[1]
    assert not going
    assert min(seconds) > 0


def test_waiting_for_the_next_turn_is_no_attack_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two events of a run its clock stands still, its last snapshot included."""
    lost, real = 0.0, time.perf_counter
    began = real()
    monkeypatch.setattr(time, "perf_counter", lambda: real() + lost)
    for _, event in side_by_side([run(scenario) for scenario in SCENARIOS]):
        lost += 1000.0
        if isinstance(event, Finished):
            assert event.seconds <= real() - began


def test_in_turn_one_run_ends_before_the_next_begins() -> None:
    scenarios = [SCENARIOS[0].changed(max_iterations=2, wrong_labels=wrong) for wrong in range(3)]
    events = list(in_turn([run(scenario) for scenario in scenarios]))
    places = [place for place, _ in events]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2}
    assert sum(isinstance(event, Finished) for _, event in events) == 3


def test_a_run_leaves_its_reader_the_settings_of_pytorch() -> None:
    before = torch.backends.cudnn.deterministic
    for _ in side_by_side([run(scenario.changed(max_iterations=2)) for scenario in SCENARIOS]):
        assert torch.backends.cudnn.deterministic == before
