"""However many moments a run has, their pictures stay within a limit, and show it from its beginning to its end."""

from __future__ import annotations

import numpy as np
import pytest

from deepleak_core.events import Event, Finished, Snapshot, Stage
from deepleak_core.runs.thinning import thinned

SIZE = 2 * 3 * 4 * 4  # of the pictures of a moment
END = Finished(reason="seconds", sentence="Over.", step=999, seconds=1, residual=0.1)


def moments(count: int, *, progress: bool = True) -> list[Event]:
    """A run with so many moments, evenly spaced."""
    images = np.zeros((2, 3, 4, 4), dtype=np.float32)
    return [
        Snapshot(
            step=step, seconds=step, loss=0, residual=0, labels=(0, 0), images=images,
            progress=(step + 1) / count if progress else None,
        )
        for step in range(count)
    ]  # fmt: skip


def steps(events: list[Event], most: float) -> list[int]:
    """Which moments are left."""
    return [event.step for event in thinned(events, most) if isinstance(event, Snapshot)]


def test_a_run_that_takes_little_stays_whole() -> None:
    events = [*moments(10), Stage(name="Next", sentence="Goes on."), *moments(10), END]
    assert list(thinned(events, 40 * SIZE)) == events


@pytest.mark.parametrize("count", [50, 1000])
def test_one_that_takes_much_has_fewer_from_its_middle_on_up_to_its_end(count: int) -> None:
    left = steps([*moments(count), END], 20 * SIZE)
    assert left[:10] == list(range(10))
    assert left[-1] == count - 1
    assert len(left) <= 21
    gaps = np.diff([step for step in left if step > count // 2])
    assert len(gaps) >= 3
    assert gaps.max() <= 0.11 * count, "nothing stands still for long"


def test_where_moments_begin_to_be_left_out_a_stage_says_so_once() -> None:
    events = list(thinned([*moments(50), END], 20 * SIZE))
    (said,) = [event for event in events if isinstance(event, Stage)]
    before = [event for event in events[: events.index(said)] if isinstance(event, Snapshot)]
    assert [event.step for event in before] == list(range(said.step)), "all are there until then"
    assert said.step not in [event.step for event in events if isinstance(event, Snapshot)]


def test_the_last_moment_is_told_before_the_end() -> None:
    events = [*moments(50)[:43], Stage(name="Next", sentence="Goes on."), END]  # ends before its time, by itself
    assert [type(event) for event in thinned(events, 20 * SIZE)][-2:] == [Snapshot, Finished]
    assert steps(events, 20 * SIZE)[-1] == 42


def test_of_the_largest_pictures_the_first_and_the_last_are_left() -> None:
    assert steps([*moments(50), END], 1) == [0, 49]


def test_without_known_progress_half_is_spent() -> None:
    assert steps([*moments(50, progress=False), END], 20 * SIZE) == [*range(10), 49]
