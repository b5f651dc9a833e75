"""Keeping: what is too old or takes too much is deleted, the oldest first, and its space is given back."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deepleak_core.events import PICTURES, Snapshot, to_message
from deepleak_core.runs import keeping as module
from deepleak_core.runs.keeping import MB, Keeping, forget_marked, mark_outdated
from deepleak_core.runs.schema import FORGET
from deepleak_core.runs.store import RunRecord, Store, this_process
from deepleak_core.scenario import Scenario
from tests.runs.engines import PATIENCE

HERE = this_process()
FOREVER = Keeping(days=None, megabytes=None)


@pytest.fixture
def store(url: str) -> Store:
    return Store(url)


@cache
def pictures() -> tuple[bytes, ...]:
    images = np.random.default_rng(0).random((4, 3, 64, 64), dtype=np.float32)  # some 50 kB as PNG
    return unscored(0, images).pictures()


def unscored(step: int, images: np.ndarray) -> Snapshot:
    return Snapshot(
        step=step, seconds=step, loss=0, residual=0, labels=(0,) * 4, progress=None, images=images, score=None
    )


def snapshot(step: int) -> dict[str, Any]:
    empty = to_message(unscored(step, np.zeros((0, 3, 4, 4), dtype=np.float32)))
    return empty | {PICTURES["Snapshot"]: pictures()}


def recorded(store: Store, snapshots: int = 4, **values: Any) -> str:
    """A run that has ended."""
    run_id = store.create(Scenario(), HERE, **values)
    store.append(run_id, [snapshot(step) for step in range(snapshots)])
    store.finish(run_id, "finished")
    return run_id


def tidy(store: Store, keeping: Keeping) -> int:
    mark_outdated(store, keeping)
    return forget_marked(store)


def left(store: Store) -> set[str]:
    return {record.id for record in store.runs()}


def read(store: Store, run_id: str) -> RunRecord:
    record = store.run(run_id)
    assert record is not None
    return record


def test_nothing_goes_while_there_is_room_and_time(store: Store) -> None:
    runs = {recorded(store) for _ in range(3)}
    assert tidy(store, Keeping(days=1, megabytes=100)) == tidy(store, FOREVER) == 0
    assert left(store) == runs


def test_the_oldest_go_first_where_all_take_too_much(store: Store) -> None:
    runs = [recorded(store) for _ in range(4)]
    under_way = store.create(Scenario(), HERE)
    size = read(store, runs[0]).bytes
    assert store.size() == 4 * size > 4 * 100_000
    assert tidy(store, Keeping(days=None, megabytes=2.5 * size / MB)) == 2
    assert left(store) == {*runs[2:], under_way}
    assert store.size() == 2 * size
    assert store.events(runs[0]) == []


def test_what_is_kept_on_purpose_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [recorded(store) for _ in range(3)]
    store.keep(runs[0], True)
    assert read(store, runs[0]).kept
    later = Keeping(days=1e-9, megabytes=None)
    assert tidy(store, later) == 2
    assert left(store) == {runs[0]}
    store.keep(runs[0], False)
    assert tidy(store, later) == 1
    assert left(store) == set()


def test_what_is_marked_already_counts_no_more(store: Store) -> None:
    runs = [recorded(store) for _ in range(4)]
    keeping = Keeping(days=None, megabytes=2.5 * read(store, runs[0]).bytes / MB)
    assert [mark_outdated(store, keeping) for _ in range(2)] == [2, 0]
    assert left(store) == set(runs[2:])


def test_half_of_the_space_may_be_kept(store: Store) -> None:
    runs = [recorded(store) for _ in range(2)]
    size = read(store, runs[0]).bytes
    tight = Keeping(days=None, megabytes=3 * size / MB)
    assert tight.has_room_to_keep(store, size)
    store.keep(runs[0], True)
    assert not tight.has_room_to_keep(store, size)
    assert FOREVER.has_room_to_keep(store, size)


def test_a_run_is_forgotten_with_its_events_its_study_and_its_groups(store: Store) -> None:
    runs, study = [recorded(store) for _ in range(2)], recorded(store, study="a" * 64)
    group, other = store.group(runs), store.group(runs[1:])
    for run_id in (runs[0], study):
        store.ask(run_id, FORGET)
    assert forget_marked(store) == 2
    for run_id in (runs[0], study):
        assert store.run(run_id) is store.pictures(run_id) is None
        assert store.events(run_id) == store.history(run_id) == []
    assert store.members(group) == []
    assert [record.id for record in store.members(other)] == runs[1:]
    assert store.studies(["a" * 64]) == {}


def test_a_run_under_way_is_deleted_when_it_has_ended_and_takes_no_event_afterwards(store: Store) -> None:
    run_id = store.create(Scenario(), HERE)
    store.append(run_id, [snapshot(0)])
    store.ask(run_id, FORGET)
    assert forget_marked(store) == 0
    store.finish(run_id, "stopped")
    assert forget_marked(store) == 1
    store.append(run_id, [snapshot(1)])
    assert store.size() == 0
    assert store.events(run_id) == []


def test_others_write_while_a_large_run_is_deleted(store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every pause another connection writes at once."""
    large, run_id, other = recorded(store, 40), store.create(Scenario(), HERE), Store(url)
    written = itertools.count()
    pause = SimpleNamespace(sleep=lambda _: other.append(run_id, [snapshot(next(written))]))
    monkeypatch.setattr(module, "EVENTS_AT_ONCE", 2)
    monkeypatch.setattr(module, "time", pause)
    store.ask(large, FORGET)
    assert forget_marked(store) == 1
    assert left(store) == {run_id}
    assert len(store.curve(run_id)) == next(written) >= 40 / 2


def size_on_disk(path: Path) -> int:
    return sum(os.path.getsize(file) for file in path.parent.glob(f"{path.name}*"))


def test_a_file_stays_small_over_many_runs(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    store, sizes = Store(f"sqlite:///{path}"), []
    keeping = Keeping(days=None, megabytes=2)
    for _ in range(30):
        recorded(store)
        tidy(store, keeping)
        sizes.append(size_on_disk(path))
    assert store.size() <= 2 * MB
    assert max(sizes[15:]) <= 1.2 * max(sizes[:15])
    for run_id in left(store):
        store.ask(run_id, FORGET)
    forget_marked(store)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < 200_000, "the space is given back"


def test_a_file_of_another_program_that_cannot_give_space_back_is_no_endless_task(tmp_path: Path) -> None:
    path = tmp_path / "others.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    store = Store(f"sqlite:///{path}")
    store.ask(recorded(store), FORGET)
    forgetting = threading.Thread(target=forget_marked, args=(store,), daemon=True)
    forgetting.start()
    forgetting.join(PATIENCE)
    assert not forgetting.is_alive()
    assert left(store) == set()
