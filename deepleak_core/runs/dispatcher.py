"""Hand jobs to Dask workers, and record what they report in the store.

An event takes this way: a worker iterates `Task.run` and logs each event under a topic (see `workers`); Dask sends it
through its scheduler to the client here, which has subscribed to the topic (see `connection`); one thread, the
dispatcher, hands it to another, the writer, which stores it and tries again where that fails (see `writer`).

Dask decides which worker runs a job and restarts workers that die. The dispatcher decides when, because pages show a
place in the queue: it hands out one job for each worker and keeps the rest waiting (see `queue`), so an attack has its
worker to itself. A running study gives way to a waiting attack. Whatever happens to a run is put into the dispatcher's
inbox as a function, called in that order.

On a cluster that others have started, jobs go only to workers that have this version of the package (see `roster`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from deepleak_core.errors import DeepLeakError
from deepleak_core.runs.connection import Connection
from deepleak_core.runs.jobs import KILLED, TOO_LARGE, Job, failure, first_line, given_up
from deepleak_core.runs.log import Facts, log
from deepleak_core.runs.queue import Queue
from deepleak_core.runs.roster import Roster
from deepleak_core.runs.store import INTERRUPTED, Status, Store
from deepleak_core.runs.writer import Writer

logger = logging.getLogger(__name__)

STOP_SECONDS = 0.6  # a worker in the middle of a long iteration is not waited for any longer than this
TICK_SECONDS = 0.1  # how often the dispatcher checks on runs that wait or are under way
STORED_SECONDS = 2.0  # how long the end of a run that waits may take until it is stored
STARTING_SECONDS = 30.0  # for which the first worker may be awaited
CLOSING_SECONDS = 5.0  # how long closing waits until all is stored
COUNT_SECONDS = 10.0  # between counts of the workers where no news of them arrives


class Dispatcher:
    """Executes the jobs of a queue on workers.

    The constructor returns at once: workers get ready in the background.

    Args:
        store: Where runs are recorded.
        scheduler: Address of a Dask scheduler; where it is empty, workers are started on this machine.
        max_memory: Bytes that an attack may take on such a worker.

    Attributes:
        workers: Number of workers that may get jobs, when last counted.
        ready: Whether a worker has loaded all it needs and waits for its first run, or has had one.
        device: The kind of device that workers choose by themselves: cpu, cuda, or cluster where others chose it.
        waiting: The queue.
        lock: Guards the queue, which visitors' threads change too: to be held by whoever reads or changes it.
    """

    def __init__(self, store: Store, *, scheduler: str, max_memory: int | None):
        self.store = store
        self.workers = 0
        self.ready = False
        self._connection = Connection(
            scheduler,
            max_memory=max_memory,
            on_message=self._later(self._record),
            on_workers=self._later(self._follow_workers),
            on_memory=self._later(self._record_cause),
            on_answer=self._later(self._meet),
        )
        self.device = self._connection.device
        self._roster = Roster(scheduler)
        self._reached = True  # whether the scheduler could be, when last tried
        self.lock = threading.Lock()
        self.waiting = Queue()
        self._underway: dict[str, Job] = {}
        self._inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._closing = False
        self._began = self._counted = time.monotonic()
        self._writer = Writer(store, on_given_up=self._later(self._stop))
        self._inbox.put(self._hand_out)
        self._dispatcher = threading.Thread(target=self._work, name="deepleak-dispatcher", daemon=True)
        self._dispatcher.start()

    @property
    def starting(self) -> bool:
        """Whether no worker has come yet, though one may be expected still."""
        return not self.workers and self._reached and time.monotonic() - self._began < STARTING_SECONDS

    @property
    def scheduler_address(self) -> str:
        """Address of the Dask scheduler, where other clients can watch its workers; empty before there is one."""
        return self._connection.address

    def hindrance(self, run_id: str) -> str:
        """Why a run that waits here cannot begin, in a sentence; empty where workers are connected, or may be soon."""
        with self.lock:
            waits = self.waiting.of(run_id) is not None
        return self._roster.hindrance if waits else ""

    @property
    def trouble(self) -> str:
        """Why the store takes no writes, in a sentence; empty while it does."""
        return self._writer.trouble

    def close(self) -> None:
        """End every run as interrupted, and the workers that were started here."""
        self._closing = True
        self._inbox.put(lambda: None)  # wakes the dispatcher
        self._dispatcher.join()
        for job in self.jobs():
            self._finish(job, "interrupted", INTERRUPTED)
        self._writer.close(CLOSING_SECONDS)
        self._connection.close(self._underway)

    def jobs(self) -> list[Job]:
        """The jobs that wait or are under way."""
        return [*self.waiting, *list(self._underway.values())]

    def add(self, job: Job) -> None:
        """Have a job wait for a worker. To be called with the lock."""
        self.waiting.add(job)
        self._inbox.put(self._hand_out)

    def going(self) -> int:
        """How many jobs a worker has, or is about to have, without those of which every run has ended."""
        return sum(len(job.ended) < len(job.tasks) for job in list(self._underway.values()))

    def end(self, run_id: str, status: Status, cause: str = "", kind: str = "") -> None:
        """End a run that is not known here; `cause` is a sentence for visitors, `kind` its short name for the log."""
        self._writer.finish(run_id, status, cause, facts={"cause": kind})

    def known(self) -> set[str]:
        """The runs that wait or are under way here."""
        with self.lock:
            return {run_id for job in self.jobs() for run_id in job.tasks}

    def halt(self, run_id: str) -> bool:
        """Have a run that is known here end; whether that is stored, as far as it is known by now."""
        with self.lock:
            for job in self.jobs():
                job.unwanted |= run_id in job.tasks
            waits = self.waiting.of(run_id) is not None
        if waits:
            return self._stop_waiting(run_id).wait(STORED_SECONDS)
        self._inbox.put(partial(self._stop, run_id))
        return not self._writer.trouble

    def _stop_waiting(self, run_id: str) -> threading.Event:
        """End a job that waits, if it still does; what is returned is set once that is stored."""
        done = threading.Event()
        with self.lock:
            job = self.waiting.of(run_id)
            if job is not None:
                job.unwanted = True
                return self._finish(job, "stopped", then=partial(self._leave, job))
        done.set()
        return done

    def _leave(self, job: Job) -> None:
        """Forget a job that waits, now that its end is stored."""
        with self.lock:
            self.waiting.leave(job)

    def _later(self, action: Callable[..., object]) -> Callable[..., None]:
        """A function that puts a call of `action` into the inbox; it does not wait, whichever thread calls it."""
        return lambda *values: self._inbox.put(partial(action, *values))

    # ------------------------------------------------------------------------------------------- in its thread
    def _work(self) -> None:
        while not self._closing:
            try:
                action = self._inbox.get(timeout=TICK_SECONDS if self.waiting or self._underway else COUNT_SECONDS)
            except Empty:
                # News of workers that come or go may be lost with a connection.
                late = time.monotonic() - self._counted >= COUNT_SECONDS
                action = self._hand_out if late or not self._underway else self._attend
            try:
                action()
                self._attend()
            except Exception:
                logger.exception("The dispatcher failed in one of its actions.")

    def _hand_out(self) -> None:
        """Give waiting jobs to Dask, the most urgent first, one for each worker."""
        self._counted = time.monotonic()
        try:
            running = self._connection.open()
        except Exception as error:  # whatever it is, no run should wait for workers that never come
            self._miss_workers(error)
            return
        if not running:
            self.workers = 0
            return
        self._reached = True
        self._count(self._connection.workers())
        self._take_back_stranded()
        self._roster.wait(bool(self.waiting))
        if self._roster.hopeless:
            self._dismiss(self._roster.given_up, "no workers")
        with self.lock:
            while len(self._underway) < self.workers and (free := self.waiting.may_begin(self._underway.values())):
                job = free[0]
                job.allowed = frozenset(self._roster.usable if self._connection.scheduler else ())
                job.future = self._connection.submit(job)
                self._underway[job.id] = job
                self.waiting.begin(job)
            attacks = sum(job.urgency == 0 for job in self.waiting.may_begin(self._underway.values()))
        # An attack does not wait for a study: the study goes back into the queue.
        for job in [job for job in self._underway.values() if job.urgency and job.worker][:attacks]:
            if job.stop_by is None and not job.yields and not job.over:
                job.yields = True
                self._connection.request_stop(job)

    def _miss_workers(self, error: Exception) -> None:
        """End the jobs that wait, because no worker can be reached or started."""
        if self._reached:
            log("no workers", level=logging.WARNING, cause=type(error).__name__)
            logger.warning("No worker could be reached or started.", exc_info=not self._connection.scheduler)
        self.workers, self._reached = 0, False
        known, advice = isinstance(error, DeepLeakError), self._connection.advice
        reason = str(error) if known else f"No worker could be started ({first_line(error)}); {advice}."
        self._dismiss(reason, "no workers")

    def _count(self, there: Mapping[str, int]) -> None:
        """Take note of the workers that are connected, and miss those that are gone without any news of it."""
        for worker in self._roster.see(there):
            if self._connection.scheduler:
                self._connection.ask(worker)
            else:
                self._connection.warm_up(worker)
        self.workers = len(self._roster.usable)
        for job in list(self._underway.values()):
            if job.worker and job.worker not in there and not job.over and not job.future.done():
                self._on_worker_lost(job)

    def _dismiss(self, cause: str, kind: str) -> None:
        with self.lock:
            for job in self.waiting.in_line():
                job.unwanted = True
                self._finish(job, "failed", cause, kind, then=partial(self._leave, job))

    def _finish(
        self, job: Job, status: Status, cause: str = "", kind: str = "", *, then: Callable[[], object] = lambda: None
    ) -> threading.Event:
        """End those runs of a job that have not ended yet, then call a function; what is returned is set after both.

        `cause` is a sentence for visitors, `kind` its short name for the log.
        """
        *others, last = job.tasks
        for run_id in others:
            self._writer.finish(run_id, status, cause, facts={"cause": kind})
        return self._writer.finish(last, status, cause, facts={"cause": kind}, then=then)

    def _conclude(self, job: Job, status: Status, cause: str = "", kind: str = "") -> None:
        """End a job that no worker has any more; it leaves the engine once that is stored."""
        job.over = True
        self._finish(job, status, cause, kind, then=lambda: self._inbox.put(partial(self._remove, job)))

    def _remove(self, job: Job) -> None:
        self._underway.pop(job.id, None)
        self._hand_out()

    def _record(self, message: dict[str, Any]) -> None:
        """Record a worker's message: that it is ready, that a run begins, or one of its events."""
        worker = message["worker"]  # Dask puts the sender's address there
        if "ready" in message:
            log("worker ready", worker=worker, device=message["ready"])
            self.ready = True
            return
        run_id, event = message["run"], message.get("event")
        job = self._job_of(run_id)
        if job is None:
            return
        if event is None:
            job.worker = worker
            log("run started", run=run_id, worker=worker)
            self._writer.start(run_id)
        elif run_id not in job.ended:  # a job that was started again repeats the events of runs that had ended
            self._writer.append(run_id, event)
            if event["kind"] == "Finished":
                job.ended.add(run_id)
                status: Status = "stopped" if event["reason"] == "stopped" else "finished"
                facts: Facts = {"reason": event["reason"], "seconds": event["seconds"]}
                self._writer.finish(run_id, status, facts=facts)

    def _job_of(self, run_id: str) -> Job | None:
        jobs = self._underway.values()
        return next((job for job in jobs if run_id in job.tasks and not job.over), None)

    def _attend(self) -> None:
        """Look for what no message reports: jobs that are done, and workers that do not stop in time."""
        for job in self._underway.values():
            if job.over:
                continue
            if job.future.done():
                # A worker sends events and results over one connection, so all its events are in the inbox by now.
                self._inbox.put(partial(self._end, job))
            elif job.stop_by is not None and time.monotonic() > job.stop_by:
                self._finish(job, "stopped")  # for viewers; the worker may still be in an iteration
                job.stop_by = math.inf

    def _end(self, job: Job) -> None:
        if job.over or self._underway.get(job.id) is not job:  # an earlier message has ended it, or taken it back
            return
        if job.future.status == "finished" and job.yields and job.stop_by is None and not job.unwanted:
            self._take_back(job)
            self._hand_out()
        elif job.future.status == "finished":
            # The end of an attack is recorded already; this ends studies.
            self._conclude(job, "finished" if job.stop_by is None else "stopped")
        elif job.future.status == "error":
            self._conclude(job, "failed", failure(job.future), type(job.future.exception()).__name__)
        else:
            cause = f"The connection to the worker was lost; {self._connection.advice}."
            self._conclude(job, "failed", cause, "connection lost")

    def _take_back(self, job: Job) -> None:
        """Have a job wait again for a worker."""
        with self.lock:
            del self._underway[job.id]
            self.waiting.add(
                replace(job, future=None, worker="", allowed=frozenset(), yields=False, round=job.round + 1)
            )

    def _take_back_stranded(self) -> None:
        """Take back jobs that Dask keeps for workers that are all gone."""
        for job in list(self._underway.values()):
            if not job.allowed or job.over or job.future.done() or job.allowed & set(self._roster.usable):
                continue
            if job.stop_by is not None and not job.over:
                self._drop(job, "stopped")
            elif not job.over:
                job.future.cancel()
                self._take_back(job)

    def _stop(self, run_id: str) -> None:
        job = self._job_of(run_id)
        if job is None:  # it may have gone back into the queue meanwhile
            self._stop_waiting(run_id)
            return
        if job.stop_by is not None:
            return
        job.unwanted = True
        job.stop_by = time.monotonic() + STOP_SECONDS
        self._connection.request_stop(job)
        if not job.worker:
            self._drop(job, "stopped")

    def _drop(self, job: Job, status: Status, cause: str = "", kind: str = "") -> None:
        """End a job that no worker has begun, and prevent that one begins it."""
        job.future.cancel()
        self._conclude(job, status, cause, kind)

    # ----------------------------------------------------------------------------------- workers come and go

    def _follow_workers(self, happened: dict[str, Any]) -> None:
        if happened["action"] == "remove-worker" and not happened["expected"]:
            for job in list(self._underway.values()):
                held = job.future.key in happened["processing-tasks"]
                if job.worker == happened["worker"] and held and not job.over:
                    self._on_worker_lost(job)
        if happened["action"] in ("add-worker", "remove-worker"):
            self._hand_out()

    def _meet(self, worker: str, answer: object) -> None:
        if self._roster.meet(worker, answer):
            self._connection.warm_up(worker)
        self._hand_out()

    def _on_worker_lost(self, job: Job) -> None:
        """Let Dask start the job again after its first lost worker, give it up after the second."""
        cause = "memory" if job.cause == TOO_LARGE else "killed"
        log("worker lost", level=logging.WARNING, run=next(iter(job.tasks)), worker=job.worker, cause=cause)
        job.lost_workers += 1
        job.worker = ""
        if job.stop_by is not None:
            self._drop(job, "stopped")
        elif job.lost_workers == 1:
            for run_id in job.tasks:
                self._writer.note_again(run_id, f"The run was started again from its beginning, because {job.cause}.")
            job.cause = KILLED
        else:
            self._drop(job, "failed", given_up(job.cause), f"worker {cause} twice")

    def _record_cause(self, happened: dict[str, Any]) -> None:
        """A worker is about to be killed because it takes too much memory."""
        for job in self._underway.values():
            if job.worker == happened["worker"]:
                job.cause = TOO_LARGE
