"""The writer: what a store cannot take now is written later, in order; no run stays under way because of it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.pool import Pool

from deepleak_core.errors import StoreUnavailable
from deepleak_core.events import Downloading, Snapshot, to_message
from deepleak_core.runs import writer as module
from deepleak_core.runs.engine import Engine
from deepleak_core.runs.store import RunRecord, Store, this_process
from deepleak_core.runs.writer import Writer
from deepleak_core.scenario import Scenario
from tests.runs.engines import LONG, PATIENCE, SHORT, ended, eventually, is_recorded_whole, running

HERE = this_process()
EVENTS = [to_message(Downloading(dataset="cifar10", bytes_done=done, bytes_total=9)) for done in range(9)]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


@pytest.fixture
def settings() -> Iterator[list[str]]:
    """Settings of SQLite that every connection gets when it is next used: how a test makes a database fail."""
    chosen = ["busy_timeout = 100"]

    def apply(connection: Any, *_: object) -> None:
        for setting in chosen:
            connection.execute(f"PRAGMA {setting}")

    sqlalchemy_event.listen(Pool, "checkout", apply)
    yield chosen
    sqlalchemy_event.remove(Pool, "checkout", apply)


@pytest.fixture
def store(database: Path, settings: list[str]) -> Store:
    return Store(f"sqlite:///{database}")


@pytest.fixture
def given_up() -> list[str]:
    return []


@pytest.fixture
def writer(store: Store, given_up: list[str]) -> Iterator[Writer]:
    writer = Writer(store, on_given_up=given_up.append)
    yield writer
    writer.close(1)


def locked(database: Path) -> Callable[[], None]:
    """Take the write lock of a database; a function that gives it back."""
    other = sqlite3.connect(database, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")

    def unlock() -> None:
        other.execute("ROLLBACK")
        other.close()

    return unlock


def picture() -> dict[str, Any]:
    images = np.random.default_rng(0).random((8, 3, 64, 64), dtype=np.float32)  # some 100 kB as PNG
    return to_message(
        Snapshot(step=0, seconds=0, loss=0, residual=0, labels=(0,) * 8, progress=None, images=images, score=None)
    )


def read(store: Store, run_id: str) -> RunRecord:
    record = store.run(run_id)
    assert record is not None
    return record


def test_a_locked_database_gets_every_event_in_order(store: Store, writer: Writer, database: Path) -> None:
    run_id = store.create(Scenario(), HERE)
    unlock = locked(database)
    writer.start(run_id)
    for event in EVENTS:
        writer.append(run_id, event)
    stored = writer.finish(run_id, "finished")
    eventually(lambda: writer.trouble)
    assert not stored.wait(0.5)
    assert read(store, run_id).status == "queued", "an end is not told before the events are there"
    unlock()
    assert stored.wait(PATIENCE)
    assert [to_message(event) for event in store.events(run_id)] == EVENTS
    assert (read(store, run_id).status, writer.trouble) == ("finished", "")


@pytest.mark.parametrize("fault", ["max_page_count = 1", "query_only = 1"], ids=["full", "read-only"])
def test_a_run_that_cannot_be_stored_ends_with_the_cause(
    store: Store,
    writer: Writer,
    database: Path,
    settings: list[str],
    given_up: list[str],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)
    run_id, other = (store.create(Scenario(), HERE) for _ in range(2))
    writer.append(run_id, EVENTS[0])
    eventually(lambda: store.events(run_id))
    settings.append(fault)
    writer.append(run_id, picture())
    eventually(lambda: not read(store, run_id).under_way)
    assert read(store, run_id).status == "failed"
    assert "could not be stored" in read(store, run_id).message
    assert given_up == [run_id]
    settings.append(fault.split()[0] + " = 0" if "query" in fault else "max_page_count = 1000000")
    writer.append(run_id, EVENTS[1])
    writer.append(other, picture())
    assert writer.finish(other, "finished").wait(PATIENCE)
    assert len(store.events(run_id)) == 1, "no event follows one that is lost"
    assert len(store.events(other)) == 1
    assert read(Store(f"sqlite:///{database}"), run_id).status == "failed"


def test_too_much_to_remember_is_given_up(
    store: Store, writer: Writer, database: Path, given_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = picture()
    monkeypatch.setattr(module, "MOST_BYTES", 5 * sum(map(len, event["images"])))
    many, few = (store.create(Scenario(), HERE) for _ in range(2))
    unlock = locked(database)
    writer.append(few, event)
    for _ in range(9):
        writer.append(many, event)
    stored = [writer.finish(run_id, "finished") for run_id in (many, few)]
    unlock()
    assert all(done.wait(PATIENCE) for done in stored)
    assert given_up == [many]
    assert [read(store, run_id).status for run_id in (many, few)] == ["failed", "finished"]
    assert len(store.events(few)) == 1


def test_closing_does_not_wait_for_ever(store: Store, database: Path) -> None:
    writer, run_id = Writer(store, on_given_up=print), store.create(Scenario(), HERE)
    unlock = locked(database)
    writer.finish(run_id, "finished")
    writer.close(0.2)
    unlock()
    assert read(Store(f"sqlite:///{database}"), run_id).status == "queued", "the next start ends it as interrupted"


# --------------------------------------------------------------------------------------------- with an engine


@pytest.fixture
def engine(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.delenv("DEEPLEAK_SCHEDULER", raising=False)
    monkeypatch.setenv("DEEPLEAK_THREADS", "1")
    engine = Engine(store)
    yield engine
    engine.close()


def test_an_attack_goes_on_while_the_database_is_locked(engine: Engine, database: Path) -> None:
    run_id, waiting = engine.submit(SHORT.changed(max_iterations=400)), engine.submit(LONG)
    running(engine, run_id)
    unlock = locked(database)
    threading.Timer(2, unlock).start()
    assert ended(engine, run_id).status == "finished"
    steps = [moment.step for moment in engine.store.curve(run_id)]
    assert steps == sorted(set(steps))
    running(engine, waiting)
    unlock = locked(database)
    with suppress(StoreUnavailable):  # raised where a write has failed by now
        engine.stop(waiting)
    unlock()
    assert ended(engine, waiting).status == "stopped"
    assert ended(engine, engine.submit(SHORT)).status == "finished"
    is_recorded_whole(engine, engine.submit(SHORT))


def test_a_run_that_waits_leaves_the_queue_once_its_end_is_stored(engine: Engine, database: Path) -> None:
    busy, waits = engine.submit(LONG), engine.submit(SHORT)
    running(engine, busy)
    unlock = locked(database)
    with pytest.raises(StoreUnavailable, match="stopped"):
        engine.stop(waits)
    unlock()
    eventually(lambda: not read(Store(f"sqlite:///{database}"), waits).under_way)
    engine.stop(busy)
    assert [ended(engine, run_id).status for run_id in (waits, busy)] == ["stopped"] * 2
    assert engine.store.events(waits) == []
