"""A database server: an engine records into it, and what it does not take while it is gone is stored afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deepleak_core.errors import StoreUnavailable
from deepleak_core.runs import housekeeping
from deepleak_core.runs.engine import Engine
from deepleak_core.runs.store import INTERRUPTED, Store, this_process
from deepleak_core.runs.writer import Writer
from deepleak_core.scenario import Scenario
from tests.runs.engines import PATIENCE, SHORT, ended, eventually, is_recorded_whole
from tests.runs.test_writer import EVENTS

HERE = this_process()


def test_a_server_that_is_gone_for_a_while_costs_no_event(server: Any, postgresql: str) -> None:
    store = Store(postgresql)
    writer = Writer(store, on_given_up=print)
    run_id = store.create(Scenario(), HERE)
    writer.start(run_id)
    writer.append(run_id, EVENTS[0])
    eventually(lambda: store.events(run_id))
    server.stop()
    for event in EVENTS[1:]:
        writer.append(run_id, event)
    stored = writer.finish(run_id, "finished")
    eventually(lambda: writer.trouble)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        store.run(run_id)
    with pytest.raises(StoreUnavailable, match="could not be opened") as refusal:
        Store(postgresql)
    assert "connection" not in str(refusal.value), "the driver's words name the server"
    server.start()
    assert stored.wait(PATIENCE)
    assert [event.bytes_done for event in store.events(run_id)] == list(range(len(EVENTS)))
    record = store.run(run_id)
    assert record is not None
    assert record.status == "finished"
    writer.close(1)


@pytest.fixture
def engine(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.delenv("DEEPLEAK_SCHEDULER", raising=False)
    monkeypatch.setenv("DEEPLEAK_THREADS", "1")
    monkeypatch.setattr(housekeeping, "TIDY_SECONDS", 0.2)
    monkeypatch.setattr(housekeeping, "SILENT_SECONDS", 2.0)
    engine = Engine(Store(postgresql))
    yield engine
    engine.close()


def test_an_engine_records_into_a_server_and_ends_runs_of_a_machine_that_is_silent(engine: Engine) -> None:
    store = engine.store
    silent = store.create(Scenario(), "another-machine:1:2.00")
    store.beat("another-machine:1:2.00")
    run_id = engine.submit(SHORT)
    assert ended(engine, run_id).status == "finished"
    is_recorded_whole(engine, run_id)
    record = ended(engine, silent)
    assert (record.status, record.message) == ("interrupted", INTERRUPTED)
    eventually(lambda: list(store.beats()) == [HERE])
    engine.forget(run_id)
    eventually(lambda: not store.events(run_id))
