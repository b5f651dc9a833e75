"""The workers: how those of this machine are started, and what every worker process does for the engine.

A worker on another machine is started by `dask worker ADDRESS --nthreads 1` where deepleak_core can be imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import dask
import torch
from distributed import Nanny, Scheduler, SpecCluster, get_worker

from deepleak_core.attack import run as attack
from deepleak_core.events import Event, to_message
from deepleak_core.runs.scheduling import TURNS, Turns
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario
from deepleak_core.studies.label_accuracy import Study

DASK_SETTINGS = {
    "distributed.worker.profile.enabled": False,  # would look at the attack's stack a hundred times a second
    "distributed.worker.memory.target": False,  # nothing is kept that could move to disk,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,  # and a worker that pauses would never go on
    "distributed.admin.low-level-log-length": 50,  # messages remembered for debugging; ours carry pictures
    "distributed.admin.tick.interval": "500ms",  # instead of fifty times a second, in three processes
    # Dask sets MALLOC_TRIM_THRESHOLD_ here, which has glibc fetch every tensor's memory from the system anew.
    "distributed.nanny.pre-spawn-environ": {},
    # Dask would close, for good, a nanny whose worker has been gone for 15 s, also while it brings up a new one.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}


def local_environments() -> dict[str, dict[str, Any]]:
    """One worker process for each CUDA device, else one for the CPU: names and what their environment holds.

    Threads are set on purpose, see `threads`: Dask would give a worker one, PyTorch would take every core.
    """
    devices = torch.cuda.device_count()
    threads = str(cpu_threads(processes=max(1, devices)))
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    if not devices:
        return {"cpu": environment}
    visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(devices)))).split(",")
    return {f"cuda-{i}": environment | {"CUDA_VISIBLE_DEVICES": visible[i]} for i in range(devices)}


def start_cluster(environments: dict[str, dict[str, str]]) -> Any:
    """A scheduler in this process and worker processes beside it, reachable from this machine only."""
    dask.config.set(DASK_SETTINGS)
    common = {"host": "127.0.0.1", "dashboard": False}
    workers = {
        name: {
            "cls": Nanny,
            "options": common
            | {
                "env": environment,
                "nthreads": 1,  # tasks at a time; the environment says how many threads a task takes
                "memory_limit": 0.8 / len(environments),  # of the machine's; the rest is the app's
                "silence_logs": logging.WARNING,
            },
        }
        for name, environment in environments.items()
    }
    scheduler = {"cls": Scheduler, "options": common | {"dashboard_address": "127.0.0.1:0"}}
    return SpecCluster(  # type: ignore[no-untyped-call]
        workers=workers, scheduler=scheduler, silence_logs=logging.WARNING
    )


# ---------------------------------------------------------------------------------------- in the worker's process

_told_to_stop: set[str] = set()  # jobs that shall end, whether they have begun here yet or not


def tell_to_stop(*jobs: str) -> None:
    """Have these jobs end after their current iteration; Dask calls this while `execute` is at work."""
    _told_to_stop.update(jobs)


def execute(job: str, topic: str, runs: Mapping[str, Scenario | Study], turns: Turns) -> None:
    """Execute the runs of a job: say of each that it begins, then log each of its events, all under the topic."""
    worker, run_ids = get_worker(), list(runs)

    def stop() -> bool:
        return job in _told_to_stop

    def story(run_id: str) -> Iterator[Event]:
        worker.log_event(topic, {"run": run_id})
        task = runs[run_id]
        yield from task.run(stop) if isinstance(task, Study) else attack.run(task, stop=stop)

    for place, event in TURNS[turns]([story(run_id) for run_id in run_ids]):
        worker.log_event(topic, {"run": run_ids[place], "event": to_message(event)})


def rehearse(topic: str) -> None:
    """Import, allocate and choose algorithms for a first time, so that no visitor waits for it; tell the device."""
    for _ in attack.run(Scenario(max_iterations=2)):
        pass
    device = attack.describe(attack.choose_device(Scenario()))
    logging.getLogger("distributed.worker").info("DeepLeak attacks on %s.", device)
    get_worker().log_event(topic, {"ready": device})
