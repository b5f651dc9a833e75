"""Tasks: what the engine gives to a worker.

A `Task` is any picklable object with the members below, such as `Attack` or `studies.label_accuracy.Study`. Workers
must be able to import its class.

>>> from deepleak_core.scenario import Scenario
>>> task = Attack(Scenario(indices=(0, 4), max_iterations=3))
>>> task.check()
>>> type(list(task.run())[-1]).__name__
'Finished'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import Event
from deepleak_core.runs.checks import check
from deepleak_core.runs.limits import MB, Limits
from deepleak_core.runs.run import run
from deepleak_core.runs.thinning import thinned
from deepleak_core.scenario import Scenario


class Task(Protocol):
    """Work that yields events."""

    @property
    def scenario(self) -> Scenario:
        """What it works on, stored with its run."""

    @property
    def key(self) -> str:
        """Equal for equal questions, at most 64 characters; empty where every submission is a run of its own."""

    @property
    def urgency(self) -> int:
        """0 is the most urgent. Running tasks of a higher number give way to waiting ones of number 0."""

    def check(self) -> None:
        """Raise `UnsupportedScenario` where it cannot run here."""

    def run(self, stop: Callable[[], bool] = ...) -> Iterator[Event]:
        """Do the work. `stop` is called between iterations; once it returns True, the events end soon."""


@dataclass(frozen=True)
class Attack:
    """One attack on one client update, within limits: the task behind every run that is not a study."""

    scenario: Scenario
    limits: Limits = field(default_factory=Limits)
    key: str = ""
    urgency: int = 0

    def check(self) -> None:
        """Raise `UnsupportedScenario` where the scenario cannot run here."""
        check(self.scenario)
        if problems := self.limits.problems(self.scenario):
            raise UnsupportedScenario(problems)

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Yield the events of `deepleak_core.run`, without snapshots that would take too much."""
        events = run(self.limits.capped(self.scenario), stop=stop, max_memory=self.limits.memory)
        most = self.limits.pictures_mb
        yield from events if most is None else thinned(events, most * MB)
