"""The connection to Dask: workers, what they report, and the jobs they are given.

The dispatcher decides, in a thread of its own; here is how its decisions reach workers and how news of them reaches it.
Nothing that Dask's event loop calls may wait, or no message of any worker would arrive meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pkgutil import resolve_name
from typing import Any

from distributed import Client, fire_and_forget

from deepleak_core.errors import OtherVersion
from deepleak_core.runs import workers
from deepleak_core.runs.jobs import Job
from deepleak_core.runs.roster import NOT_THERE, QUESTION, misfit
from deepleak_core.runs.store import this_process

CONNECT_SECONDS = 10  # how long a scheduler may take to answer, and to come back

Told = Callable[[dict[str, Any]], object]


class Connection:
    """A client of a Dask scheduler, and the workers that were started here where it is of this machine.

    Methods are called by one thread at a time. The functions given are called by Dask's event loop and must not wait.

    Args:
        scheduler: Address of a Dask scheduler; where it is empty, workers are started on this machine.
        max_memory: Bytes that an attack may take on such a worker.
        on_message: Gets what a worker has logged (see `workers`), with its address as `worker`.
        on_workers: Gets Dask's event of a worker that comes or goes, among others: `action`, `worker`, and of one
            that goes whether that was `expected` and its `processing-tasks`.
        on_memory: Gets Dask's event of a `worker` that is about to be killed because it takes too much memory.
        on_answer: Gets a worker and what it has answered to `ask`, an error where it could not be asked.

    Attributes:
        scheduler: As given.
        device: The kind of device that workers choose by themselves: cpu, cuda, or cluster where others chose it.
    """

    def __init__(
        self,
        scheduler: str,
        *,
        max_memory: int | None,
        on_message: Told,
        on_workers: Told,
        on_memory: Told,
        on_answer: Callable[[str, object], object],
    ):
        self.scheduler = scheduler
        self._max_memory = max_memory
        self._on_message, self._on_workers, self._on_memory = on_message, on_workers, on_memory
        self._on_answer = on_answer
        self._environments = {} if scheduler else workers.local_environments()
        self.device = "cluster" if scheduler else "cpu" if "cpu" in self._environments else "cuda"
        self._topic = f"deepleak-{this_process()}-{id(self)}"
        self._cluster: Any = None
        self._client: Any = None

    @property
    def address(self) -> str:
        """Address of the Dask scheduler, where other clients can watch its workers; empty before there is one."""
        scheduler = getattr(self._client, "scheduler", None)
        return str(scheduler.address) if scheduler is not None else ""

    @property
    def advice(self) -> str:
        """What to do where no worker can be reached, as the end of a sentence."""
        if self.scheduler:
            return f"check that the Dask scheduler at {self.scheduler} runs, then run it again"
        return "see the log of the app, then run it again"

    def open(self) -> bool:
        """Connect, on the first call and again once Dask has given up on its scheduler.

        Returns:
            Whether the scheduler is reached; Dask tries again by itself where it is not.

        Raises:
            OtherVersion: The scheduler has another version of this package.
            Exception: Whatever else prevents that workers are started or the scheduler is reached.
        """
        if self._client is None or self._client.status == "closed":
            if self._environments and self._cluster is None:
                self._cluster = workers.start_cluster(self._environments, self._max_memory)
            client = Client(  # type: ignore[no-untyped-call]
                self.scheduler or self._cluster, timeout=CONNECT_SECONDS, set_as_default=False
            )
            if self.scheduler:
                _require_version(client, self.scheduler)
            self._client = client
            self._subscribe()
        return bool(self._client.status == "running")

    def workers(self) -> Mapping[str, int]:
        """The workers that are connected, by address, and their number of threads."""
        there: Mapping[str, int] = self._client.nthreads()
        return there

    def ask(self, worker: str) -> None:
        """Ask a worker for its version, without waiting for the answer."""
        client, answered = self._client, self._on_answer

        async def ask() -> None:
            try:
                answers = await client.run(resolve_name, QUESTION, workers=[worker], on_error="return")
            except Exception as error:
                answers = {worker: error}
            answered(worker, answers.get(worker))

        client.loop.add_callback(ask)

    def warm_up(self, worker: str) -> None:
        """Have a worker load and allocate what its first run would otherwise wait for."""
        future = self._client.submit(
            workers.warm_up,
            self._topic,
            key=f"deepleak-warm-up-{worker}-{self._topic}",
            workers=[worker],
            allow_other_workers=True,  # or it would wait forever for a worker that is gone
            pure=False,
        )
        fire_and_forget(future)  # type: ignore[no-untyped-call]

    def submit(self, job: Job) -> Any:
        """Give a job to one of the workers that are allowed to have it; its future."""
        self._subscribe()
        return self._client.submit(
            workers.execute,
            job.id,
            self._topic,
            job.tasks,
            job.schedule,
            key=f"deepleak-{job.id}",
            workers=list(job.allowed) or None,
            pure=False,
        )

    def request_stop(self, job: Job) -> None:
        """Have a job end after its current iteration, without waiting for the answer of the workers."""
        # Called within Dask's event loop, `run` does not wait.
        self._client.loop.add_callback(partial(self._client.run, workers.request_stop, job.id, on_error="ignore"))

    def close(self, jobs: Collection[str]) -> None:
        """Have jobs of these ids end, and the workers that were started here."""
        if self._client is not None:
            if self._client.status == "running":
                self._client.unsubscribe_topic("all")  # or its own closing would be reported to it
                with suppress(OSError):  # a scheduler that is gone, without Dask having noticed yet
                    self._client.run(workers.request_stop, *jobs, on_error="ignore")
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _subscribe(self) -> None:
        """Have what arrives told.

        Repeated for every run, a small message each: a client that reconnected to its scheduler has lost its
        subscriptions.
        """
        subscribe = self._client.subscribe_topic
        subscribe(self._topic, lambda event: self._on_message(event[1]))
        subscribe("all", lambda event: self._on_workers(event[1]))
        subscribe("worker-restart-memory", lambda event: self._on_memory(event[1]))


def _require_version(client: Any, address: str) -> None:
    """Close a client whose scheduler, which reads jobs too, has another version. Raises `OtherVersion`."""
    try:
        answer = client.run_on_scheduler(resolve_name, QUESTION)
    except NOT_THERE as error:
        answer = error
    if problem := misfit(f"The Dask scheduler at {address}", answer):
        client.close()
        raise OtherVersion(problem)
