"""A Dask cluster for tests and benchmarks: processes of this machine that are no children of an engine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.ports import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 120


class Cluster:
    """Processes of Dask on this machine, with the package from a folder, or without it where that has none.

    None runs yet; the address is that of a scheduler that may be started. `folder` is theirs to work in.
    """

    def __init__(self, folder: Path):
        self._port = str(free_port())
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self, source: Path = ROOT) -> None:
        """Start the scheduler, and wait until it takes connections. Raises `TimeoutError` where it does not."""
        self._start(source, "scheduler", "--host", "127.0.0.1", "--port", self._port, "--no-dashboard")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", int(self._port))):
                return
            time.sleep(0.05)
        raise TimeoutError(f"The scheduler did not start within {START_SECONDS} seconds.")

    def start_worker(self, source: Path = ROOT) -> None:
        place = ("--local-directory", str(self._folder))
        self._start(source, "worker", self.address, "--nthreads", "1", "--no-dashboard", *place)

    def end(self, processes: slice = slice(None)) -> None:
        """Kill processes, by default all, with those that they have started."""
        for process in self._processes[processes]:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
            process.wait()
        del self._processes[processes]

    def _start(self, source: Path, *command: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            cwd=self._folder,
            env=os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
