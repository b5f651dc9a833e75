"""What a server allows its visitors: caps on seconds, iterations, batch size, memory and pictures of an attack.

Time and iterations only end an attack earlier, so an attack that asks for more is begun, and ends at the cap. A batch
that is too large is refused: a smaller one would be another question. Of pictures that take too much, fewer are
kept (see `thinning`). The command line has no caps.

>>> limits = Limits(seconds=300, batch_size=8)
>>> limits.capped(Scenario()).max_seconds, limits.capped(Scenario(max_seconds=20)).max_seconds
(300.0, 20.0)
>>> limits.problems(Scenario(batch_size=9))
['batch_size was 9; this server attacks batches of 8 images at most: take fewer.']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepleak_core.attack.attacks import settings_of
from deepleak_core.environment import MAX_BATCH, MAX_ITERATIONS, MAX_MEMORY_MB, MAX_SECONDS, RUN_MB
from deepleak_core.scenario import Scenario

MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Caps on an attack, none where None; `memory_mb` and `pictures_mb` in megabytes."""

    seconds: float | None = None
    iterations: int | None = None
    batch_size: int | None = None
    memory_mb: int | None = None
    pictures_mb: float | None = None

    @classmethod
    def of_server(cls) -> Limits:
        """As the environment says. Raises `DeepLeakError` where it is no number."""
        return cls(
            seconds=MAX_SECONDS.value(),
            iterations=_whole(MAX_ITERATIONS.value()),
            batch_size=_whole(MAX_BATCH.value()),
            memory_mb=_whole(MAX_MEMORY_MB.value()),
            pictures_mb=RUN_MB.value(),
        )

    @property
    def memory(self) -> int | None:
        """The cap on memory in bytes."""
        return None if self.memory_mb is None else self.memory_mb * MB

    def problems(self, scenario: Scenario) -> list[str]:
        """Why a scenario is refused here, one sentence each."""
        if self.batch_size is None or scenario.batch_size <= self.batch_size:
            return []
        return [
            f"batch_size was {scenario.batch_size}; this server attacks batches of {self.batch_size} images at most: "
            "take fewer."
        ]

    def capped(self, scenario: Scenario) -> Scenario:
        """The scenario as it is executed: it ends at the caps at the latest."""
        ends = self._ends(scenario)
        if self.iterations is not None and scenario.max_iterations is None:
            own = getattr(settings_of(scenario), "iterations", 0)
            ends |= {"max_iterations": self.iterations} if own > self.iterations else {}
        if self.seconds is not None and scenario.max_seconds is None:
            ends["max_seconds"] = self.seconds
        return scenario.changed(**ends)

    def lowered(self, scenario: Scenario) -> tuple[Scenario, list[str]]:
        """The scenario, where it asks for more than is allowed with the caps in place of that; a sentence for each."""
        asked = self._ends(scenario)
        words = [
            f"{name} was {getattr(scenario, name):,.10g}; attacks on this server end after {value:,.10g} at the "
            f"latest, so {value:,.10g} was taken."
            for name, value in asked.items()
        ]
        return (scenario.changed(**asked) if asked else scenario), words

    def sentence(self) -> str:
        """What visitors are told of the caps.

        >>> Limits(seconds=300, iterations=100000, batch_size=9).sentence()
        'On this server an attack ends after 300 s and 100,000 iterations at the latest; a batch has 9 images at most.'
        >>> Limits().sentence()
        ''
        """
        ends = [f"{self.seconds:g} s"] if self.seconds else []
        ends += [f"{self.iterations:,} iterations"] if self.iterations else []
        parts = [f"an attack ends after {' and '.join(ends)} at the latest"] if ends else []
        parts += [f"a batch has {self.batch_size} images at most"] if self.batch_size else []
        parts += [f"an attack may take {self.memory_mb} MB of memory"] if self.memory_mb else []
        return f"On this server {'; '.join(parts)}." if parts else ""

    def _ends(self, scenario: Scenario) -> dict[str, Any]:
        """The caps that are lower than what a scenario asks for, by the names of its fields."""
        caps = {"max_seconds": self.seconds, "max_iterations": self.iterations}
        asked = {name: getattr(scenario, name) for name in caps}
        return {name: cap for name, cap in caps.items() if None not in (cap, asked[name]) and asked[name] > cap}


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
