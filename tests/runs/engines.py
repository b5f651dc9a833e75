"""What tests of an engine share: scenarios, waiting for what its workers do, and what a whole record is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import psutil

from deepleak_core.events import (
    Finished,
    GroundTruthKnown,
    LabelsInferred,
    Prepared,
    Snapshot,
    Stage,
    UpdateShared,
)
from deepleak_core.runs.engine import Engine
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from tests.helpers import ROOT

PATIENCE = 180  # seconds: these tests ask whether things happen, not when

SHORT = Scenario(indices=(0, 3), model="lenet", max_iterations=20)
LONG = Scenario(indices=(0, 3), model="lenet", max_iterations=10**6)


def eventually(happened: Callable[[], Any]) -> Any:
    """Wait until something is true and give it back."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


def record_of(engine: Engine, run_id: str) -> RunRecord:
    record = engine.store.run(run_id)
    assert record is not None
    return record


def ended(engine: Engine, run_id: str) -> RunRecord:
    eventually(lambda: not record_of(engine, run_id).under_way)
    return record_of(engine, run_id)


def running(engine: Engine, run_id: str, attempt: int = 1) -> None:
    """Wait until an attempt has its first snapshots."""
    eventually(lambda: [m for m in engine.store.curve(run_id) if m.attempt == attempt][1:])


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def worker_processes() -> list[psutil.Process]:
    """Worker processes that this process has started."""
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def is_recorded_whole(engine: Engine, run_id: str) -> None:
    kinds = [type(event) for event in engine.store.events(run_id)]
    assert kinds[:5] == [Prepared, GroundTruthKnown, UpdateShared, LabelsInferred, Stage]
    assert kinds[5] is Snapshot
    assert kinds[-2:] == [Snapshot, Finished]
    assert set(kinds[5:-1]) <= {Snapshot, Stage}
    steps = [moment.step for moment in engine.store.curve(run_id)]
    assert steps[0] == 0
    assert steps[-1] == SHORT.max_iterations
    assert steps == sorted(steps)
