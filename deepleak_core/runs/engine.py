"""Run tasks on Dask workers, on this machine by default, and record their events in the store.

    engine = Engine(Store())
    run_id = engine.submit(Scenario())  # returns at once; read the store for what happens

Equal questions share one run: `submit` returns the id of a run that has answered, or is about to answer, the same
scenario, unless it is told to run it again.

What a worker is given is a job: an attack, a study, or several attacks with a schedule (see `jobs`, `scheduling`).
Jobs wait in the queue until the dispatcher hands them out and records what happens (see `dispatcher`). Viewers read
the store and never talk to a worker.

Beside it the housekeeper looks for what others have asked about runs, and deletes old ones (see `housekeeping`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hmac import compare_digest

from deepleak_core.environment import SCHEDULER
from deepleak_core.errors import NotAllowed, RunRejected, StoreUnavailable, UnsupportedScenario
from deepleak_core.runs.dispatcher import CLOSING_SECONDS, Dispatcher
from deepleak_core.runs.fingerprint import fingerprint
from deepleak_core.runs.housekeeping import Housekeeper
from deepleak_core.runs.jobs import Job
from deepleak_core.runs.keeping import Keeping
from deepleak_core.runs.limits import Limits
from deepleak_core.runs.log import log, refusals
from deepleak_core.runs.queue import MOST_OF_ONE, require_room, require_share
from deepleak_core.runs.scheduling import Schedule
from deepleak_core.runs.schema import FORGET, STOP
from deepleak_core.runs.store import RunRecord, Store, this_process
from deepleak_core.runs.tasks import Attack, Task
from deepleak_core.scenario import Scenario

LOST = "The run was lost before it began; run it again."


class Engine:
    """Runs scenarios and studies on workers and records their events in a store.

    The constructor returns at once: workers get ready in the background. Runs that a process that is gone left under
    way are marked interrupted.

    Args:
        store: Where runs are recorded.
        scheduler: Address of a Dask scheduler; by default `DEEPLEAK_SCHEDULER`, or workers started on this machine.
        max_waiting: How many attacks may wait before `submit` refuses.
        max_waiting_studies: How many studies may wait before `study` refuses.
        limits: Caps on every attack, by default those of the environment.
        keeping: How long and how much of past runs is kept, by default as the environment says.
    """

    def __init__(
        self,
        store: Store,
        *,
        scheduler: str | None = None,
        max_waiting: int = 16,
        max_waiting_studies: int = 64,
        limits: Limits | None = None,
        keeping: Keeping | None = None,
    ):
        self.limits = limits or Limits.of_server()
        self.keeping = keeping or Keeping.of_server()
        self.max_waiting = max_waiting
        self.max_waiting_studies = max_waiting_studies
        self.store = store
        store.interrupt_orphans()
        self._dispatcher = Dispatcher(store, scheduler=scheduler or SCHEDULER.value(), max_memory=self.limits.memory)
        self._housekeeper = Housekeeper(
            store,
            keeping=self.keeping,
            known=self._dispatcher.known,
            stop=self._dispatcher.halt,
            give_up=lambda run_id: self._dispatcher.end(run_id, "failed", LOST, "lost"),
        )

    @property
    def workers(self) -> int:
        """Number of workers that may get runs, when last counted."""
        return self._dispatcher.workers

    @property
    def starting(self) -> bool:
        """Whether no worker has come yet, though one may be expected still."""
        return self._dispatcher.starting

    @property
    def ready(self) -> bool:
        """Whether a worker has loaded all it needs and waits for its first run, or has had one."""
        return self._dispatcher.ready

    @property
    def trouble(self) -> str:
        """Why the store takes no writes, in a sentence; empty while it does."""
        return self._dispatcher.trouble

    @property
    def scheduler_address(self) -> str:
        """Address of the Dask scheduler, where other clients can watch its workers; empty before there is one."""
        return self._dispatcher.scheduler_address

    def hindrance(self, run_id: str) -> str:
        """Why a run that waits here cannot begin, in a sentence; empty where workers are connected, or may be soon."""
        return self._dispatcher.hindrance(run_id)

    def submit(self, scenario: Scenario, *, again: bool = False, visitor: str = "") -> str:
        """The id of the run that answers a scenario: a finished one, one under way, else a new one.

        Args:
            scenario: What is asked.
            again: Whether to run it once more in any case.
            visitor: The identity of who asks, stored with a new run.

        Raises:
            UnsupportedScenario: It cannot run here.
            RunRejected: Too many runs wait.
        """
        return self._submit([self._attack(scenario)], "side by side", again=again, visitor=visitor)[0]

    def submit_group(
        self,
        scenarios: Sequence[Scenario],
        schedule: Schedule = "side by side",
        *,
        again: bool = False,
        visitor: str = "",
    ) -> str:
        """The id of a group of runs that answer the scenarios in their order, each as `submit` would.

        One worker executes the new runs together: they have one place in the queue, are stopped together and, where
        one fails, end together; each is recorded as a run of its own.
        """
        return self.store.group(
            self._submit(list(map(self._attack, scenarios)), schedule, again=again, visitor=visitor)
        )

    @refusals()
    def study(self, study: Task, *, visitor: str = "") -> str:
        """The id of the run that answers a task with a key: a finished or waiting one, else a new one, by its urgency.

        A new run belongs to the visitor. Raises `UnsupportedScenario` and `RunRejected`.
        """
        study.check()
        if problems := self.limits.problems(study.scenario):
            raise UnsupportedScenario(problems)
        with self._dispatcher.lock:
            known = self.store.studies([study.key]).get(study.key)
            if known is not None and (known.under_way or known.status == "finished"):
                return known.id
            studies = [job for job in self._dispatcher.jobs() if job.urgency]
            require_share("studies", visitor, studies, self.max_waiting_studies // 2)  # others shall find room, too
            require_room(
                "studies", sum(job.urgency > 0 for job in self._dispatcher.waiting.in_line()), self.max_waiting_studies
            )
            run_id = self.store.create(study.scenario, owner=this_process(), study=study.key, visitor=visitor)
            self._enqueue({run_id: study}, "in turn", visitor)
        return run_id

    def _attack(self, scenario: Scenario) -> Attack:
        return Attack(scenario, self.limits)

    @refusals()
    def _submit(self, tasks: Sequence[Task], schedule: Schedule, *, again: bool, visitor: str) -> list[str]:
        for task in tasks:
            task.check()
        with self._dispatcher.lock:
            answers = [None if again else self._answer(task.scenario) for task in tasks]
            new: dict[str, Task] = {}
            if None in answers:
                waiting = sum(job.urgency == 0 for job in self._dispatcher.waiting.in_line())
                require_share("runs", visitor, [job for job in self._dispatcher.jobs() if not job.urgency], MOST_OF_ONE)
                require_room("runs", waiting + self._dispatcher.going() - max(self.workers, 1), self.max_waiting)
            for place, task in enumerate(tasks):
                if answers[place] is None:
                    run_id = self.store.create(
                        task.scenario,
                        owner=this_process(),
                        visitor=visitor,
                        device=self._dispatcher.device,
                        executed=self.limits.capped(task.scenario),
                    )
                    answers[place], new[run_id] = run_id, task
            if new:
                self._enqueue(new, schedule, visitor)
        return [run_id for run_id in answers if run_id is not None]

    def _answer(self, scenario: Scenario) -> str | None:
        """The id of a run that has answered a scenario, or will unless somebody stops it; None without one.

        A run that lower limits of the server have ended early is none.
        """
        executed, device = self.limits.capped(scenario), self._dispatcher.device
        if (done := self.store.finished_like(executed, device=device)) is not None:
            return done.id
        wanted = {run_id for job in self._dispatcher.jobs() if not job.unwanted for run_id in job.tasks}
        under_way = self.store.under_way_like(executed, this_process(), device=device)
        if (shared := next((record.id for record in under_way if record.id in wanted), None)) is not None:
            return shared
        done = self.store.finished_like(executed, device=device)  # one may have ended between the two questions
        return None if done is None else done.id

    def _enqueue(self, tasks: Mapping[str, Task], schedule: Schedule, visitor: str) -> None:
        for run_id, task in tasks.items():
            executed = self.limits.capped(task.scenario)
            log("run queued", run=run_id, scenario=fingerprint(executed, self._dispatcher.device))
        self._dispatcher.add(Job(tasks, schedule, visitor))
        self._housekeeper.wake()

    @refusals()
    def stop(self, run_id: str, *, visitor: str | None = None) -> None:
        """End a run and those of its group within a second, queued or running; its events so far are kept.

        A run that has ended is not changed. One of another process is stopped by that one, within about a second.

        Args:
            run_id: The run.
            visitor: The identity of who asks, who must have started it; None for who may stop any run.

        Raises:
            NotAllowed: Another visitor has started it.
            StoreUnavailable: The run is stopped, but its end could not be stored yet.
        """
        if visitor is not None:
            self._owned(run_id, visitor, "stop it")
        log("stop asked", run=run_id)
        if run_id not in self._dispatcher.known():
            self._stop_elsewhere(run_id)
        elif not self._dispatcher.halt(run_id):
            raise StoreUnavailable(f"The run is stopped, and shown so as soon as possible. {self.trouble}")

    @refusals()
    def forget(self, run_id: str, *, visitor: str | None = None) -> None:
        """Delete a run with all its events and pictures, after it was stopped if need be.

        It is not found any more when this returns, and deleted soon afterwards. Arguments and errors as for `stop`.
        """
        record = self._owned(run_id, visitor, "forget it")
        self.store.ask(run_id, FORGET)
        if record is not None and record.under_way and run_id in self._dispatcher.known():
            self._dispatcher.halt(run_id)
        self._housekeeper.wake()

    @refusals()
    def keep(self, run_id: str, kept: bool, *, visitor: str | None = None) -> None:
        """Except a run from being forgotten by age or for space, or no longer. Arguments and errors as for `stop`.

        Raises:
            RunRejected: Runs that are kept take too much already.
        """
        record = self._owned(run_id, visitor, "keep it")
        if record is not None and kept and not self.keeping.has_room_to_keep(self.store, record.bytes):
            raise RunRejected(
                'Kept runs take half of the space already; switch off "Keep this run" for one of them first.'
            )
        self.store.keep(run_id, kept)

    def _owned(self, run_id: str, visitor: str | None, what: str) -> RunRecord | None:
        """A run that this visitor has started, or any run for None. Raises `NotAllowed` for another."""
        record = self.store.run(run_id)
        own = record is not None and record.visitor and compare_digest(record.visitor, visitor or "")
        if visitor is not None and not own:
            raise NotAllowed(f"Only who started this run may {what}; you may watch it, and start one of your own.")
        return record

    def _stop_elsewhere(self, run_id: str) -> None:
        """Ask the process that owns a run to stop it; the housekeeper ends it where that process is gone."""
        record = self.store.run(run_id)
        if record is None or not record.under_way:
            return
        if record.owner == this_process():  # lost while it was made
            self._dispatcher.end(run_id, "stopped")
            return
        self.store.ask(run_id, STOP)
        self.store.interrupt_orphans()

    def position(self, run_id: str) -> int | None:
        """A run's place among the attacks that wait here, 1 for the next; None unless it is one of them."""
        with self._dispatcher.lock:
            attacks = [job for job in self._dispatcher.waiting.in_line() if job.urgency == 0]
        return next((place for place, job in enumerate(attacks, start=1) if run_id in job.tasks), None)

    def close(self) -> None:
        """End every run as interrupted, and the workers that this engine has started."""
        self._housekeeper.close(CLOSING_SECONDS)
        self._dispatcher.close()
