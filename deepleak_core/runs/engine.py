"""Where runs execute: Dask workers, on this machine by default, on a cluster by its scheduler's address.

    engine = Engine(Store())
    run_id = engine.submit(Scenario())  # returns at once, the store tells the rest

The road of an event: a worker iterates `attack.run` and logs each event under a topic (see `workers`); Dask carries
it by way of its scheduler to the client here, which has subscribed to that topic; one thread, the clerk, writes it
into the store. Viewers read the store and never meet a worker.

What a worker is given is a job: an attack, a study, or a group of attacks that take turns, see `turns`.

Dask decides which worker runs what and brings back those that die. The clerk decides when, since a place in the
queue is something to show: it hands out one job for each worker and keeps the rest waiting, so that an attack has
its worker to itself. Attacks and groups of them go first, then batches laid open, which somebody looks at, then
points of curves; each sort in the order of arrival. A curve is one job a point, so an attack waits for no more than
a point of it. Whatever happens to a run on its way is an errand in the clerk's inbox, done one by one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from distributed import Client, KilledWorker, fire_and_forget

from deepleak_core.attack import run as attack
from deepleak_core.errors import DeepLeakError, RunRejected
from deepleak_core.runs import workers
from deepleak_core.runs.scheduling import Turns
from deepleak_core.runs.store import INTERRUPTED, Status, Store, this_process
from deepleak_core.scenario import Scenario
from deepleak_core.studies.label_accuracy import Study

logger = logging.getLogger(__name__)

STOP_SECONDS = 0.6  # a worker in the middle of a long iteration is not waited for any longer than this
TICK_SECONDS = 0.1  # how often the clerk looks up while a run waits or is under way
CONNECT_SECONDS = 10  # how long a scheduler may take to answer, and to come back

LOST = "its worker process was killed, from outside or by the system for want of memory"
TOO_LARGE = "its worker took more memory than it may have"


class Engine:
    """Takes scenarios, has them executed and records what happens in the store.

    `scheduler` is the address of a Dask scheduler, `DEEPLEAK_SCHEDULER` if not given; without either, workers are
    started on this machine. Returns at once: workers get ready in the background. Runs left under way by a process
    that is gone are marked interrupted.
    """

    def __init__(
        self, store: Store, *, scheduler: str | None = None, max_waiting: int = 16, max_waiting_studies: int = 64
    ):
        self.store = store
        self.max_waiting = max_waiting
        self.max_waiting_studies = max_waiting_studies
        self.workers = 0  # as many as were there when last looked
        self.ready = False  # whether one of them has said so: before, it loads what it needs
        self._scheduler = scheduler or os.environ.get("DEEPLEAK_SCHEDULER")
        self._environments = {} if self._scheduler else workers.local_environments()
        self._cluster: Any = None
        self._client: Any = None
        self._topic = f"deepleak-{this_process()}-{id(self)}"
        self._lock = threading.Lock()  # guards the waiting line, which visitors' threads change too
        self._waiting: deque[_Job] = deque()
        self._underway: dict[str, _Job] = {}
        self._inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._closing = False
        store.interrupt_orphans()
        self._inbox.put(self._hand_out)
        self._clerk = threading.Thread(target=self._work, name="deepleak-clerk", daemon=True)
        self._clerk.start()

    def submit(self, scenario: Scenario) -> str:
        """Queue a scenario and return its run id. Raises `UnsupportedScenario` and `RunRejected`."""
        return self._attack([scenario], "side by side")[0]

    def submit_group(self, scenarios: Sequence[Scenario], turns: Turns = "side by side") -> str:
        """Queue scenarios that one worker shall execute together, see `turns`; gives the id of their group.

        They wait once, are stopped together and, where one fails, end together; each is recorded as a run of its own.
        Raises `UnsupportedScenario` and `RunRejected`.
        """
        return self.store.group(self._attack(scenarios, turns))

    def study(self, study: Study) -> str:
        """The run that answers a study: one that has or soon will, else a new one, queued behind every attack.

        Raises `UnsupportedScenario` and `RunRejected`.
        """
        attack.check(study.scenario)
        with self._lock:
            known = self.store.studies([study.key]).get(study.key)
            if known is not None and (known.under_way or known.status == "finished"):
                return known.id
            _require_room("studies", sum(job.urgency > 0 for job in self._waiting), self.max_waiting_studies)
            run_id = self.store.create(study.scenario, owner=this_process(), study=study.key)
            self._line_up({run_id: study})
        return run_id

    def _attack(self, scenarios: Sequence[Scenario], turns: Turns) -> list[str]:
        for scenario in scenarios:
            attack.check(scenario)
        with self._lock:
            waiting = sum(job.urgency == 0 for job in self._waiting)
            busy = sum(len(job.over) < len(job.runs) for job in list(self._underway.values()))
            _require_room("runs", waiting + busy - max(self.workers, 1), self.max_waiting)
            runs = {self.store.create(scenario, owner=this_process()): scenario for scenario in scenarios}
            self._line_up(runs, turns)
        return list(runs)

    def _line_up(self, runs: Mapping[str, Scenario | Study], turns: Turns = "in turn") -> None:
        self._waiting.append(_Job(runs, turns))
        self._inbox.put(self._hand_out)

    def stop(self, run_id: str) -> None:
        """End a run, and those of its group, within a second, queued or running; what was told so far stays.

        An ended run is left alone.
        """
        with self._lock:
            job = next((job for job in self._waiting if run_id in job.runs), None)
            if job is not None:
                self._waiting.remove(job)
                self._finish(job, "stopped")
                return
        self._inbox.put(partial(self._stop, run_id))

    def close(self) -> None:
        """End every run as interrupted, and the workers that this engine has started."""
        self._closing = True
        self._inbox.put(lambda: None)  # so that the clerk looks up
        self._clerk.join()
        for job in [*self._waiting, *self._underway.values()]:
            self._finish(job, "interrupted", INTERRUPTED)
        if self._client is not None:
            if self._client.status == "running":
                self._client.unsubscribe_topic("all")  # or the scheduler would tell this client of its own leaving
                with suppress(OSError):  # a scheduler that is gone, without Dask having noticed yet
                    self._client.run(workers.tell_to_stop, *self._underway, on_error="ignore")
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    # ------------------------------------------------------------------------------------------- the clerk

    def _work(self) -> None:
        while not self._closing:
            try:
                errand = self._inbox.get(timeout=TICK_SECONDS if self._waiting or self._underway else None)
            except Empty:
                # Runs that wait while none is under way: a lost connection may have kept from us that workers came.
                errand = self._attend if self._underway else self._hand_out
            try:
                errand()
                self._attend()
            except Exception:
                logger.exception("The engine could not do one of its errands.")

    def _connect(self) -> Any:
        """The client: made at first, and anew once Dask has given up on its scheduler."""
        if self._client is None or self._client.status == "closed":
            if self._environments and self._cluster is None:
                self._cluster = workers.start_cluster(self._environments)
            self._client = Client(  # type: ignore[no-untyped-call]
                self._scheduler or self._cluster, timeout=CONNECT_SECONDS, set_as_default=False
            )
            self._subscribe()
            for worker in self._client.nthreads():
                self._warm_up(worker)
        return self._client

    def _subscribe(self) -> None:
        """Have Dask's event loop, which must not wait, turn into errands what is told here.

        Done again for every run, a small message each: a client that lost its scheduler and found it again by itself
        has lost its subscriptions.
        """
        put = self._inbox.put
        self._client.subscribe_topic(self._topic, lambda event: put(partial(self._record, event[1])))
        self._client.subscribe_topic("all", lambda event: put(partial(self._follow_workers, event[1])))
        self._client.subscribe_topic("worker-restart-memory", lambda event: put(partial(self._blame, event[1])))

    def _hand_out(self) -> None:
        """Give waiting jobs to Dask, the most urgent first, one for each worker."""
        try:
            client = self._connect()
        except Exception as error:  # whatever keeps the workers away, nobody should be left waiting for them
            logger.warning("There are no workers.", exc_info=True)
            self._dismiss(f"No worker could be had ({_first_line(error)}); {self._advice}.")
            return
        if client.status != "running":
            return
        self.workers = len(client.nthreads())
        with self._lock:
            while self._waiting and len(self._underway) < self.workers:
                self._subscribe()
                job = min(self._waiting, key=lambda job: job.urgency)  # of equals it is the first
                key = f"deepleak-{job.id}"
                job.future = client.submit(
                    workers.execute, job.id, self._topic, job.runs, job.turns, key=key, pure=False
                )
                self._underway[job.id] = job
                self._waiting.remove(job)
            attacks = sum(job.urgency == 0 for job in self._waiting)
        # An attack does not wait for a study: that goes back into the line.
        for job in [job for job in self._underway.values() if job.urgency and job.worker][:attacks]:
            if job.stop_by is None and not job.yields:
                job.yields = True
                self._tell_to_stop(job)

    def _dismiss(self, cause: str) -> None:
        with self._lock:
            while self._waiting:
                self._finish(self._waiting.popleft(), "failed", cause)

    def _finish(self, job: _Job, status: Status, cause: str = "") -> None:
        """End those runs of a job that have not ended yet."""
        for run_id in job.runs:
            self.store.finish(run_id, status, cause)

    def _record(self, message: dict[str, Any]) -> None:
        """Keep what a worker has told: that it is ready, that a run begins, or one of its events."""
        worker = message["worker"]  # Dask puts the sender's address there
        if "ready" in message:
            logger.info("The worker at %s attacks on %s.", worker, message["ready"])
            self.ready = True
            return
        run_id, event = message["run"], message.get("event")
        job = self._job_of(run_id)
        if job is None:
            return
        if event is None:
            job.worker = worker
            self.store.start(run_id)
        elif run_id not in job.over:  # or it is told once more, by a job that was started again
            self.store.append(run_id, [event])
            if event["kind"] == "Finished":
                job.over.add(run_id)
                self.store.finish(run_id, "stopped" if event["reason"] == "stopped" else "finished")

    def _job_of(self, run_id: str) -> _Job | None:
        return next((job for job in self._underway.values() if run_id in job.runs), None)

    def _attend(self) -> None:
        """See to what no message tells: jobs that are over, and workers that do not stop in time."""
        for job in self._underway.values():
            if job.future.done():
                # A worker sends events and results down one road, so all its events are in the inbox by now.
                self._inbox.put(partial(self._end, job))
            elif job.stop_by is not None and time.monotonic() > job.stop_by:
                self._finish(job, "stopped")  # for visitors; the worker may be at an iteration still

    def _end(self, job: _Job) -> None:
        if self._underway.pop(job.id, None) is None:
            return
        if job.future.status == "finished" and job.yields and job.stop_by is None:
            with self._lock:
                self._waiting.append(_Job(job.runs, job.turns, round=job.round + 1))
        elif job.future.status == "finished":
            # An attack has told its end; what is left of a job that was to stop, such as a study, ends as stopped.
            self._finish(job, "finished" if job.stop_by is None else "stopped")
        elif job.future.status == "error":
            self._finish(job, "failed", _cause(job.future))
        else:
            self._finish(job, "failed", f"The connection to the worker was lost; {self._advice}.")
        self._hand_out()

    def _stop(self, run_id: str) -> None:
        job = self._job_of(run_id)
        if job is None or job.stop_by is not None:
            return
        job.stop_by = time.monotonic() + STOP_SECONDS
        self._tell_to_stop(job)
        if not job.worker:
            self._drop(job, "stopped")

    def _tell_to_stop(self, job: _Job) -> None:
        # Called from within Dask's event loop, `run` does not wait for the workers' answer.
        self._client.loop.add_callback(partial(self._client.run, workers.tell_to_stop, job.id, on_error="ignore"))

    def _drop(self, job: _Job, status: Status, cause: str = "") -> None:
        """End a job that no worker is at, and see to it that none begins it."""
        self._underway.pop(job.id).future.cancel()
        self._finish(job, status, cause)
        self._hand_out()

    # ----------------------------------------------------------------------------------- workers come and go

    def _follow_workers(self, happened: dict[str, Any]) -> None:
        if happened["action"] == "add-worker":
            self._warm_up(happened["worker"])
            self._hand_out()
        elif happened["action"] == "remove-worker" and not happened["expected"]:
            for job in list(self._underway.values()):
                if job.worker and job.future.key in happened["processing-tasks"]:
                    self._mourn(job)

    def _mourn(self, job: _Job) -> None:
        """A job has lost its worker. Dask starts it again elsewhere, and would do so more often than is good."""
        job.lost += 1
        job.worker = ""
        if job.stop_by is not None:
            self._drop(job, "stopped")
        elif job.lost == 1:
            for run_id in job.runs:
                record = self.store.run(run_id)
                if record is not None and record.status == "running":
                    self.store.note(run_id, f"The run was started again from its beginning, because {job.why_lost}.")
            job.why_lost = LOST
        else:
            self._drop(job, "failed", _given_up(job.why_lost))

    def _blame(self, happened: dict[str, Any]) -> None:
        for job in self._underway.values():
            if job.worker == happened["worker"]:
                job.why_lost = TOO_LARGE

    def _warm_up(self, worker: str) -> None:
        """Have a worker do once what its first visitor would otherwise wait for."""
        future = self._client.submit(
            workers.rehearse,
            self._topic,
            key=f"deepleak-warm-up-{worker}-{self._topic}",
            workers=[worker],
            allow_other_workers=True,  # or it would stay undone should this worker go
            pure=False,
        )
        fire_and_forget(future)  # type: ignore[no-untyped-call]

    @property
    def _advice(self) -> str:
        if self._scheduler:
            return f"see that the Dask scheduler at {self._scheduler} runs, then run it again"
        return "look into the app's log, then run it again"


@dataclass
class _Job:
    """Runs that a worker executes together, mostly a single one; the first one's id is the job's.

    In Dask's hands it has a `future`; `worker` is the address where it has begun, `over` are the runs that have told
    their end, which attacks do and studies do not; `stop_by` is set once it shall stop. A study that `yields` its
    worker to an attack begins anew later, as a job of the next `round`.
    """

    runs: Mapping[str, Scenario | Study]
    turns: Turns
    future: Any = None
    worker: str = ""
    lost: int = 0
    why_lost: str = LOST
    stop_by: float | None = None
    over: set[str] = field(default_factory=set)
    yields: bool = False
    round: int = 0

    @property
    def id(self) -> str:
        return f"{next(iter(self.runs))}{f'-{self.round}' if self.round else ''}"

    @property
    def urgency(self) -> int:
        """What of the waiting line goes first: 0 for attacks, 1 for a batch laid open, 2 for a point of a curve."""
        task = next(iter(self.runs.values()))
        return 0 if isinstance(task, Scenario) else 2 if task.repeats else 1


def _require_room(what: str, ahead: int, most: int) -> None:
    if ahead >= most:
        raise RunRejected(
            f"{ahead} {what} wait already and no more than {most} may; stop one of them, or try again in a few minutes."
        )


def _cause(future: Any) -> str:
    """Why a task failed, in one sentence; what nobody foresaw goes to the log in full."""
    error = future.exception()
    if isinstance(error, DeepLeakError):
        return str(error)
    if isinstance(error, KilledWorker):
        return _given_up(LOST)
    logger.error("A worker has failed.", exc_info=(type(error), error, future.traceback()))
    return (
        f"The run broke off on an unexpected {type(error).__name__} ({_first_line(error)}); "
        "the app's log has the details."
    )


def _given_up(why: str) -> str:
    return (
        f"The run was given up after two attempts, because {why}; "
        "if memory is short, make the batch, the images or the model smaller."
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
