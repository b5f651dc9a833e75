"""Start Dask workers on this machine, and the functions that every worker process runs for the engine.

To start a worker on another machine, where deepleak_core can be imported: `dask worker ADDRESS --nthreads 1`; with
`--preload deepleak_core.runs.workers` its log has the form of `DEEPLEAK_LOG`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import dask
import torch
from distributed import Nanny, Scheduler, SpecCluster, get_worker
from distributed.system import MEMORY_LIMIT

from deepleak_core.environment import LOG
from deepleak_core.events import Event, to_message
from deepleak_core.federated.case import choose_device, describe_device
from deepleak_core.runs.log import configure
from deepleak_core.runs.scheduling import SCHEDULES, Schedule
from deepleak_core.runs.tasks import Attack, Task
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

DASK_SETTINGS = {
    "distributed.worker.profile.enabled": False,  # would sample the stack of the attack a hundred times a second
    "distributed.worker.memory.target": False,  # no results are kept that could move to disk
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,  # a paused worker would never continue
    "distributed.admin.low-level-log-length": 50,  # messages kept for debugging; ours hold pictures
    "distributed.admin.tick.interval": "500ms",  # instead of fifty times a second, in three processes
    # Dask sets MALLOC_TRIM_THRESHOLD_ here, with which glibc asks the system for the memory of every tensor again.
    "distributed.nanny.pre-spawn-environ": {},
    # Dask would close a nanny whose worker has been gone for 15 s, even while it starts a new one.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}

MEMORY_SHARE = 0.8  # of the machine's memory that all workers may take; the rest is the app's
WORKER_MEMORY = 1_000_000_000  # bytes that a worker takes without any attack, at most


def local_environments() -> dict[str, dict[str, Any]]:
    """Names and environment variables of the workers: one for each CUDA device, else one for the CPU.

    The number of threads is set (see `threads`): Dask would give a worker one, PyTorch would take every core.
    """
    devices = torch.cuda.device_count()
    threads = str(cpu_threads(processes=max(1, devices)))
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    if not devices:
        return {"cpu": environment}
    visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(devices)))).split(",")
    return {f"cuda-{i}": environment | {"CUDA_VISIBLE_DEVICES": visible[i]} for i in range(devices)}


def start_cluster(environments: dict[str, dict[str, str]], max_memory: int | None = None) -> Any:
    """Start a scheduler in this process and worker processes, reachable from this machine only.

    A worker that takes more than `max_memory` bytes, or its share of the machine's memory, is started anew.
    """
    dask.config.set(DASK_SETTINGS)
    common = {"host": "127.0.0.1", "dashboard": False}
    share = int(MEMORY_LIMIT * MEMORY_SHARE / len(environments))
    workers = {
        name: {
            "cls": Nanny,
            "options": common
            | {
                "env": environment,
                "nthreads": 1,  # tasks at a time; the environment says how many threads a task takes
                "memory_limit": share if max_memory is None else min(share, max_memory + WORKER_MEMORY),
                "silence_logs": logging.WARNING,
                "preload": [__name__],
            },
        }
        for name, environment in environments.items()
    }
    scheduler = {"cls": Scheduler, "options": common | {"dashboard_address": "127.0.0.1:0"}}
    return SpecCluster(  # type: ignore[no-untyped-call]
        workers=workers, scheduler=scheduler, silence_logs=logging.WARNING
    )


# ---------------------------------------------------------------------------------------- in the worker's process

_stopping: set[str] = set()  # ids of jobs that shall end, whether they have begun here yet or not


def dask_setup(_: Any) -> None:
    """Have a process log JSON where `DEEPLEAK_LOG` asks for it; Dask calls this where it preloads this module."""
    if LOG.value().strip().lower() == "json":
        configure("json")


def request_stop(*jobs: str) -> None:
    """Have these jobs end after their current iteration; Dask calls this while `execute` runs."""
    _stopping.update(jobs)


def execute(job: str, topic: str, tasks: Mapping[str, Task], schedule: Schedule) -> None:
    """Execute the tasks of a job; log under the topic when each begins, and each of its events."""
    worker, run_ids = get_worker(), list(tasks)

    def stop() -> bool:
        return job in _stopping

    def begin(run_id: str) -> Iterator[Event]:
        worker.log_event(topic, {"run": run_id})
        yield from tasks[run_id].run(stop)

    for place, event in SCHEDULES[schedule]([begin(run_id) for run_id in run_ids]):
        worker.log_event(topic, {"run": run_ids[place], "event": to_message(event)})


def warm_up(topic: str) -> None:
    """Import, allocate and choose algorithms for the first time, so that no visitor waits for it; log the device."""
    for _ in Attack(Scenario(max_iterations=2)).run():
        pass
    device = describe_device(choose_device(Scenario()))
    logging.getLogger("distributed.worker").info("DeepLeak attacks on %s.", device)
    get_worker().log_event(topic, {"ready": device})
