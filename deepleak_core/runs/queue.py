"""The queue of jobs that wait for a worker: whose turn it is, and how many may wait.

The most urgent job goes first; among jobs of the same urgency visitors take turns, and each visitor's own go in the
order of arrival. A visitor has one attack under way at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from deepleak_core.errors import RunRejected
from deepleak_core.runs.jobs import Job

MOST_OF_ONE = 3  # attacks of one visitor: one under way and two that wait
TURNS = 500  # latest turns that are remembered; who had one before that goes first, like who never had one


class Queue:
    """Jobs that wait, and the order in which they will begin. Not safe to share among threads without a lock."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._turns: dict[tuple[int, str], int] = {}  # the last turn of each urgency and visitor, in ascending order

    def __iter__(self) -> Iterator[Job]:
        """Every job that waits, in the order of arrival, also those that somebody has asked to stop."""
        return iter(list(self._waiting))

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, job: Job) -> None:
        """Have a job wait."""
        self._waiting.append(job)

    def leave(self, job: Job) -> None:
        """Forget a job, if it still waits."""
        if job in self._waiting:
            self._waiting.remove(job)

    def begin(self, job: Job) -> None:
        """Take a job out, and count the turn of its visitor."""
        turn = max(self._turns.values(), default=0) + 1
        self._turns.pop((job.urgency, job.visitor), None)
        self._turns[job.urgency, job.visitor] = turn
        if len(self._turns) > TURNS:
            del self._turns[next(iter(self._turns))]
        self._waiting.remove(job)

    def of(self, run_id: str) -> Job | None:
        """The job that has a run, if it waits."""
        return next((job for job in self._waiting if run_id in job.tasks), None)

    def in_line(self) -> list[Job]:
        """Jobs that wait and shall run, in the order in which they will."""
        left, turns, order = [job for job in self._waiting if not job.unwanted], dict(self._turns), []
        while left:
            job = min(left, key=lambda job: (job.urgency, turns.get((job.urgency, job.visitor), 0)))  # first of equals
            turns[job.urgency, job.visitor] = max(turns.values(), default=0) + 1
            left.remove(job)
            order.append(job)
        return order

    def may_begin(self, under_way: Iterable[Job]) -> list[Job]:
        """Jobs in line without the attacks of visitors who have, or are about to have, one under way."""
        busy = {job.visitor for job in under_way if job.visitor and not (job.urgency or job.over)}
        free = []
        for job in self.in_line():
            if job.urgency or job.visitor not in busy:
                free.append(job)
            if job.visitor and not job.urgency:
                busy.add(job.visitor)
        return free


def require_share(what: str, visitor: str, jobs: Iterable[Job], most: int) -> None:
    """Refuse a further job of a visitor who has as many of these as one may have. Raises `RunRejected`."""
    mine = sum(job.visitor == visitor and not (job.unwanted or job.over) for job in jobs)
    if visitor and mine >= most:
        raise RunRejected(
            f"You have {mine} {what} that wait or are under way, and no more than {most} may be; "
            "stop one of them, or wait until one has ended."
        )


def require_room(what: str, ahead: int, most: int) -> None:
    """Refuse a further job where as many wait as may. Raises `RunRejected`."""
    if ahead >= most:
        raise RunRejected(
            f"{ahead} {what} wait already and no more than {most} may; stop one of them, or try again in a few minutes."
        )
