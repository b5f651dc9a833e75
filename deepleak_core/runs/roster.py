"""Which workers of a cluster may get jobs, and in a sentence why runs wait where none may.

A worker must have the version of this package that the app has, or a run would not be what its record says. Where the
engine has started the workers itself, they have.

>>> roster = Roster("tcp://lab:8786")
>>> roster.see({"tcp://a:1", "tcp://b:1"})  # which of them are new
['tcp://a:1', 'tcp://b:1']
>>> roster.meet("tcp://a:1", VERSION), roster.meet("tcp://b:1", "0.0.1")
(True, False)
>>> roster.usable
['tcp://a:1']
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from deepleak_core.runs.log import log
from deepleak_core.text import shorten
from deepleak_core.version import VERSION

QUESTION = "deepleak_core.version:VERSION"  # what `pkgutil.resolve_name` is asked for, on a worker or the scheduler
NOT_THERE = (ImportError, AttributeError)  # what `resolve_name` raises where there is no such package or version
NO_WORKER_SECONDS = 10.0  # for which runs may wait without a worker before that is said
GIVEN_UP_SECONDS = 600.0  # for which they may before they are given up


class Roster:
    """The workers that are connected.

    Args:
        scheduler: The address of the scheduler that others have started; empty where workers need not be asked.
    """

    def __init__(self, scheduler: str):
        self.scheduler = scheduler
        self._answers: dict[str, str | None] = {}  # by worker; None until it has answered
        self._waiting_since: float | None = None

    @property
    def usable(self) -> list[str]:
        """Workers that may get jobs."""
        return [worker for worker, answer in list(self._answers.items()) if answer == ""]

    def see(self, present: Collection[str]) -> list[str]:
        """Take note of which workers are connected now; those that are new, and must be asked."""
        for worker in set(self._answers) - set(present):
            del self._answers[worker]
        new = [worker for worker in sorted(present) if worker not in self._answers]
        self._answers.update(dict.fromkeys(new, None if self.scheduler else ""))
        return new

    def meet(self, worker: str, answer: object) -> bool:
        """Take note of what a worker has answered to `QUESTION`, or of its error; whether it may get jobs."""
        if worker not in self._answers:
            return False
        if isinstance(answer, BaseException) and not isinstance(answer, NOT_THERE):
            del self._answers[worker]  # it could not be asked; if it is still there, it is new once more
            return False
        problem = misfit(f"The worker at {worker}", answer)
        if problem:
            version = answer if isinstance(answer, str) else ""
            log("worker refused", level=logging.WARNING, worker=worker, version=version, cause=type(answer).__name__)
        self._answers[worker] = problem
        return not problem

    def wait(self, anybody: bool) -> None:
        """Take note of whether any run waits; the time for which one has without a worker is counted from then on."""
        if not anybody or self.usable:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = time.monotonic()

    @property
    def hindrance(self) -> str:
        """Why runs wait, in a sentence; empty where a worker is connected, or may be soon."""
        waited = self._waited()
        if waited is None:
            return ""
        if self._problem:
            return self._problem
        if self.scheduler and waited > NO_WORKER_SECONDS:
            return f"No worker is connected to {self.scheduler}; runs begin as soon as one is."
        return ""

    @property
    def hopeless(self) -> bool:
        """Whether runs have waited without a worker for so long that they should be given up."""
        waited = self._waited()
        return waited is not None and waited > GIVEN_UP_SECONDS

    @property
    def given_up(self) -> str:
        """Why runs are given up where it is hopeless, in a sentence."""
        minutes = f"{GIVEN_UP_SECONDS / 60:g} minutes"
        if self._problem:
            return f"The run was given up after {minutes}. {self._problem}"
        if self.scheduler:
            return f"No worker was connected to {self.scheduler} for {minutes}; start one, then run it again."
        return f"No worker has started within {minutes}; see the log of the app, then run it again."

    @property
    def _problem(self) -> str:
        return next((answer for answer in list(self._answers.values()) if answer), "")

    def _waited(self) -> float | None:
        since = self._waiting_since
        return None if since is None else time.monotonic() - since


def misfit(who: str, answer: object) -> str:
    """Why a process that has answered `QUESTION` so cannot be used, in a sentence; empty where it can."""
    if answer == VERSION:
        return ""
    has = f"has version {shorten(answer)}" if isinstance(answer, str) else "cannot import deepleak_core"
    return f"{who} {has}, and this app has version {VERSION}; install the same version on both."
