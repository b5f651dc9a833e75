"""Schedules: the order in which one worker executes several runs.

A run makes no progress, and its clock stands still, between two of its events. So a schedule chooses the run that
yields the next event.

>>> from deepleak_core.events import Stage
>>> def run(*moments):
...     return iter([Stage(name="", sentence="", step=0, seconds=moment) for moment in moments])
>>> [place for place, _ in side_by_side([run(1, 2, 3), run(2, 4)])]
[0, 1, 0, 0, 1]
>>> [place for place, _ in in_turn([run(1, 2, 3), run(2, 4)])]
[0, 0, 0, 1, 1]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from deepleak_core.events import Event

Schedule = Literal["side by side", "in turn"]
Runs = Sequence[Iterator[Event]]


def side_by_side(runs: Runs) -> Iterator[tuple[int, Event]]:
    """Yield every event with the place of its run; next is always the run with the least attack time so far."""
    going, seconds = dict(enumerate(runs)), [0.0] * len(runs)
    while going:
        place = min(going, key=seconds.__getitem__)
        event = next(going[place], None)
        if event is None:
            del going[place]
        else:
            seconds[place] = getattr(event, "seconds", seconds[place])
            yield place, event


def in_turn(runs: Runs) -> Iterator[tuple[int, Event]]:
    """Yield every event with the place of its run, one run after the other."""
    for place, run in enumerate(runs):
        for event in run:
            yield place, event


SCHEDULES: dict[Schedule, Callable[[Runs], Iterator[tuple[int, Event]]]] = {
    "side by side": side_by_side,
    "in turn": in_turn,
}
