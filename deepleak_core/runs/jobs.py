"""Jobs: the tasks that one worker executes together, and in words why one has failed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import KilledWorker

from deepleak_core.errors import DeepLeakError
from deepleak_core.runs.scheduling import Schedule
from deepleak_core.runs.tasks import Task

logger = logging.getLogger(__name__)

KILLED = "its worker process was killed, by a user or by the system because memory ran out"
TOO_LARGE = "its worker took more memory than it may have"


@dataclass
class Job:
    """Tasks by the ids of their runs, mostly a single one.

    `visitor` is the identity of who asked for it, empty where that is unknown. `future` is Dask's, once the job was
    handed out; `worker` is the address of the worker that has begun it, `allowed` are those that may, empty where all
    may. `ended` are runs whose `Finished` was recorded. `unwanted` is a job that somebody has asked to stop; nobody
    else is offered its runs. `stop_by` is the time at which a job that shall stop is given up. A job that is `over`
    leaves the engine once the end of all its runs is stored. A study that `yields` its worker to an attack, and a job
    whose `allowed` workers are all gone, begin anew as a job of the next `round`.
    """

    tasks: Mapping[str, Task]
    schedule: Schedule
    visitor: str = ""
    future: Any = None
    worker: str = ""
    allowed: frozenset[str] = frozenset()
    lost_workers: int = 0
    cause: str = KILLED
    unwanted: bool = False
    stop_by: float | None = None
    over: bool = False
    ended: set[str] = field(default_factory=set)
    yields: bool = False
    round: int = 0

    @property
    def id(self) -> str:
        """The id of its first run, with the number of the round from the second one on."""
        return f"{next(iter(self.tasks))}{f'-{self.round}' if self.round else ''}"

    @property
    def urgency(self) -> int:
        """That of its first task: 0 is the most urgent."""
        return next(iter(self.tasks.values())).urgency


def failure(future: Any) -> str:
    """Why a job's future failed, in one sentence; an unexpected error goes to the log with its traceback."""
    error = future.exception()
    if isinstance(error, DeepLeakError):
        return str(error)
    if isinstance(error, KilledWorker):
        return given_up(KILLED)
    logger.error("A worker failed.", exc_info=(type(error), error, future.traceback()))
    return (
        f"The run failed with an unexpected {type(error).__name__} ({first_line(error)}); "
        "the log of the app has the details."
    )


def given_up(cause: str) -> str:
    """Why a job that lost its worker twice is not tried again."""
    return (
        f"The run was given up after two attempts, because {cause}; "
        "if memory is short, make the batch, the images or the model smaller."
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).strip().partition("\n")[0]
