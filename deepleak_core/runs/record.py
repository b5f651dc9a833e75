"""What the store gives back: runs, and snapshots without their pictures; read from rows of the tables in `schema`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import msgpack
from sqlalchemy import Row

from deepleak_core.events import PICTURES, Event, Score, Snapshot, from_message, score_of
from deepleak_core.runs.schema import RUNS
from deepleak_core.scenario import Scenario
from deepleak_core.text import json_values

Status = Literal["queued", "running", "finished", "stopped", "failed", "interrupted"]
NUMBER = "number"  # the key of an object that stands for a number that is not finite
UNDER_WAY: tuple[Status, ...] = ("queued", "running")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as the store knows it. Times are seconds since 1970, `started` is that of the last attempt.

    `attempt` is 0 in the queue, 1 at first, 2 when the run had to be started again. `message` is empty or one
    sentence: why it was started again, failed or was interrupted. `events` and `snapshots` count what is stored,
    in `bytes`. `visitor` is the identity of who started it, empty where that is unknown; `fingerprint` is empty for a
    study. A run that is `kept` is not forgotten by age or for space.
    """

    id: str
    scenario: Scenario
    status: Status
    attempt: int
    message: str
    created: float
    started: float | None
    ended: float | None
    owner: str
    events: int
    snapshots: int
    bytes: int = 0
    visitor: str = ""
    fingerprint: str = ""
    kept: bool = False

    @property
    def under_way(self) -> bool:
        """Whether more is to come: queued or running."""
        return self.status in UNDER_WAY


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A stored snapshot without its images: the `n`-th of its run, counted from 0 over all attempts.

    The other fields are those of `events.Snapshot`.
    """

    n: int
    attempt: int
    step: int
    seconds: float
    loss: float
    residual: float
    labels: tuple[int, ...]
    progress: float | None
    score: Score | None = None


# A polled run is the same scenario every time, and scenarios never change: parse each text once.
_scenario = lru_cache(maxsize=256)(Scenario.from_json)


def header_of(message: Mapping[str, Any]) -> str:
    """The values of a message as JSON text; numbers that are not finite, which JSON does not have, by their names."""
    return json.dumps(json_values(message, lambda number: {NUMBER: str(number)}), allow_nan=False)


def _read(header: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(
        header, object_hook=lambda found: float(found[NUMBER]) if found.keys() == {NUMBER} else found
    )
    return values


def run_of(row: Row[Any]) -> RunRecord:
    """The run of a row. Raises `UnsupportedScenario` where it has settings that this version does not know."""
    values = {column.name: row._mapping[column.name] for column in RUNS.c if column.name != "asked"}
    return RunRecord(**{**values, "scenario": _scenario(row.scenario), "kept": bool(row.kept)})


def event_of(row: Row[Any]) -> Event:
    """The event of a row."""
    message = {"kind": row.kind, **_read(row.header)}
    if row.pictures is not None:
        message[PICTURES[row.kind]] = msgpack.unpackb(row.pictures)
    return from_message(message)


def moment_of(row: Row[Any]) -> Moment:
    """The snapshot of a row; its pictures are not looked at."""
    header = _read(row.header)
    header["labels"] = tuple(header["labels"])
    if header.get("score") is not None:
        header["score"] = score_of(Snapshot.__name__, header["score"])
    return Moment(n=row.snapshot, attempt=row.attempt, **header)
