"""Several runs on one worker: whose turn it is.

A run stands still, its clock with it, whenever it has told an event: so turns are taken from event to event.

>>> from deepleak_core.events import Stage
>>> def story(*moments):
...     return iter([Stage(name="", sentence="", step=0, seconds=moment) for moment in moments])
>>> [place for place, _ in side_by_side([story(1, 2, 3), story(2, 4)])]
[0, 1, 0, 0, 1]
>>> [place for place, _ in in_turn([story(1, 2, 3), story(2, 4)])]
[0, 0, 0, 1, 1]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from deepleak_core.events import Event

Turns = Literal["side by side", "in turn"]
Stories = Sequence[Iterator[Event]]


def side_by_side(stories: Stories) -> Iterator[tuple[int, Event]]:
    """Every event with the place of its run; next is always the run with the fewest seconds of attack so far."""
    going, seconds = dict(enumerate(stories)), [0.0] * len(stories)
    while going:
        place = min(going, key=seconds.__getitem__)
        event = next(going[place], None)
        if event is None:
            del going[place]
        else:
            seconds[place] = getattr(event, "seconds", seconds[place])
            yield place, event


def in_turn(stories: Stories) -> Iterator[tuple[int, Event]]:
    """Every event with the place of its run, one run after the other."""
    for place, story in enumerate(stories):
        for event in story:
            yield place, event


TURNS: dict[Turns, Callable[[Stories], Iterator[tuple[int, Event]]]] = {
    "side by side": side_by_side,
    "in turn": in_turn,
}
