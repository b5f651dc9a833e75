"""The store: events come back unchanged and in order, readers and writers work at once, old databases are set aside."""

from __future__ import annotations

import math
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sqlalchemy import URL, Engine
from sqlalchemy import event as sqlalchemy_event

from deepleak_core.errors import StoreUnavailable
from deepleak_core.events import (
    Downloading,
    Event,
    FinalScore,
    Finished,
    GroundTruthKnown,
    Prepared,
    Score,
    Snapshot,
    to_message,
)
from deepleak_core.runs.schema import FORGET, STOP
from deepleak_core.runs.store import Moment, Request, Store, this_process
from deepleak_core.scenario import Scenario
from tests.runs.engines import PATIENCE

HERE = this_process()


@pytest.fixture
def store(url: str) -> Store:
    return Store(url)


def snapshot(step: int, psnr: float = 20.0) -> Snapshot:
    return Snapshot(
        step=step,
        seconds=step / 8,
        loss=0.1,
        residual=0.5,
        labels=(3, 5),
        progress=None,
        images=np.full((2, 3, 4, 4), step % 256 / 255, dtype=np.float32),
        score=Score(places=(1, 0), psnr=(psnr, 10.0), psnr_to_mean=(9.0, 8.0), fusion=0.5),
    )


def unscored(step: int) -> Snapshot:
    """As of an update without a ground truth."""
    return replace(snapshot(step), score=None)


def truth() -> GroundTruthKnown:
    return GroundTruthKnown(labels=(3, 5), pictures=snapshot(7).pictures())


def finished() -> Finished:
    score = FinalScore(
        places=(0,),
        psnr=(20.0,),
        ssim=(0.5,),
        max_error_8bit=(0,),
        pixel_exact=(True,),
        outcomes=("recovered",),
        noise_psnr=8.0,
        grey_psnr=12.0,
        time_to={"psnr20": 1.5, "psnr30": None},
    )
    return Finished(reason="converged", sentence="Done.", step=3, seconds=1.0, residual=0.1, score=score)


def prepared() -> Prepared:
    return Prepared(
        class_names=("cat", "Hündchen"),
        model_title="LeNet",
        parameters=12,
        device="CPU, 1 thread",
        stage_note="untrained",
    )


def same(a: Event | None, b: Event | None) -> bool:
    return a is not None and b is not None and to_message(a) == to_message(b)


def test_a_run_from_the_queue_to_its_end(store: Store) -> None:
    scenario = Scenario(indices=(0, 1, 3, 4), mode="fedavg", local_epochs=5)
    run_id = store.create(scenario, HERE)
    queued = store.run(run_id)
    assert queued is not None
    assert queued.under_way
    assert (queued.scenario, queued.status, queued.attempt, queued.message) == (scenario, "queued", 0, "")
    assert (queued.started, queued.ended, queued.owner) == (None, None, HERE)
    assert store.start(run_id) == 1
    store.note(run_id, "Started again.")
    assert store.start(run_id) == 2
    running = store.run(run_id)
    assert running is not None
    assert (running.status, running.attempt, running.message) == (
        "running",
        2,
        "Started again.",
    )
    assert store.finish(run_id, "finished")
    finished = store.run(run_id)
    assert finished is not None
    assert not finished.under_way
    assert (finished.status, finished.message) == ("finished", "Started again.")
    assert finished.created <= (finished.started or 0) <= (finished.ended or 0)


def test_the_first_end_counts(store: Store) -> None:
    run_id = store.create(Scenario(), HERE)
    assert store.finish(run_id, "stopped")
    assert not store.finish(run_id, "failed", "Too late.")
    assert store.start(run_id) == 0
    record = store.run(run_id)
    assert record is not None
    assert (record.status, record.attempt, record.message) == ("stopped", 0, "")


def test_ids_are_short_and_fit_for_a_url(store: Store) -> None:
    ids = {store.create(Scenario(), HERE) for _ in range(20)}
    assert len(ids) == 20
    assert all(len(i) == 12 and i.replace("-", "").replace("_", "").isalnum() for i in ids)


def test_events_come_back_in_order_and_unchanged(store: Store) -> None:
    sent: list[Event] = [
        prepared(),
        truth(),
        snapshot(0, math.inf),
        snapshot(1, math.nan),
        unscored(2),
        Downloading(dataset="c", bytes_done=1, bytes_total=0),
        finished(),
    ]
    run_id, other = store.create(Scenario(), HERE), store.create(Scenario(), HERE)
    store.append(run_id, sent[:1])
    store.append(other, [snapshot(9)])
    store.append(run_id, [to_message(event) for event in sent[1:]])
    kept = store.events(run_id)
    assert [repr(to_message(a)) for a in kept] == [repr(to_message(b)) for b in sent]
    assert same(store.latest(run_id, Prepared), sent[0])
    assert same(store.latest(other, Snapshot), snapshot(9))
    assert store.latest(run_id, Finished) == finished()
    assert store.latest(other, Finished) is None
    assert [type(event) for event in store.events(run_id, Snapshot)] == [Snapshot] * 3
    record = store.run(run_id)
    assert record is not None
    assert (record.events, record.snapshots) == (7, 3)


def test_curve_and_pictures(store: Store) -> None:
    run_id = store.create(Scenario(), HERE)
    assert store.curve(run_id) == []
    assert store.pictures(run_id) is None
    store.start(run_id)
    store.append(run_id, [prepared(), snapshot(0), snapshot(5)])
    store.start(run_id)
    store.append(run_id, [prepared(), snapshot(1)])
    curve = store.curve(run_id)
    assert [(m.n, m.attempt, m.step) for m in curve] == [(0, 1, 0), (1, 1, 5), (2, 2, 1)]
    assert curve[1].score == snapshot(5).score
    assert curve[1].labels == (3, 5)
    assert curve[1].progress is None
    assert store.curve(run_id, start=2) == curve[2:]
    for n, step in ((0, 0), (1, 5), (2, 1), (-1, 1), (-3, 0)):
        found = store.pictures(run_id, n)
        assert found is not None
        moment, pictures = found
        assert moment == curve[n]
        assert pictures == snapshot(step).pictures()
    assert store.pictures(run_id, 3) is None
    assert store.pictures(run_id, -4) is None


def test_the_history_has_all_but_the_snapshots_pictures(store: Store) -> None:
    run_id = store.create(Scenario(), HERE)
    store.append(run_id, [truth(), snapshot(0), unscored(1)])
    first, *moments = store.history(run_id)
    assert first == truth()
    assert moments[-1].score is None
    assert moments == store.curve(run_id)
    assert all(isinstance(m, Moment) for m in moments)


def test_unknown_runs(store: Store) -> None:
    assert store.run("no such run") is None
    assert store.position("no such run") is None
    assert store.events("no such run") == []
    assert store.pictures("no such run") is None


@pytest.mark.parametrize("wrong", ["", "a\0b", "' OR 1=1 --", "x" * 17, "../runs", "übung", "abc\n"])
def test_what_can_be_no_id_is_asked_of_no_database(store: Store, wrong: str) -> None:
    queries: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        queries.append(statement)

    sqlalchemy_event.listen(Engine, "before_cursor_execute", note)
    try:
        assert store.run(wrong) is None
        assert store.members(wrong) == store.events(wrong) == store.curve(wrong) == store.history(wrong) == []
        assert store.position(wrong) is store.latest(wrong, Finished) is store.pictures(wrong) is None
    finally:
        sqlalchemy_event.remove(Engine, "before_cursor_execute", note)
    assert queries == []


def test_a_database_that_does_not_answer_is_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "runs.sqlite"
    store = Store(f"sqlite:///{path}")
    sqlalchemy_event.listen(
        Engine, "checkout", impatient := lambda connection, *_: connection.execute("PRAGMA busy_timeout = 50")
    )
    run_id = store.create(Scenario(), HERE)
    other = sqlite3.connect(path)
    try:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="did not answer; try again") as refusal:
            store.append(run_id, [prepared()])
        assert "\n" not in str(refusal.value)
        assert "database is locked" not in str(refusal.value)
        assert "database is locked" in caplog.text
        other.rollback()
        store.append(run_id, [prepared()])
        assert store.events(run_id) == [prepared()], "the failed transaction left nothing"
        other.execute("DROP TABLE events")
        with pytest.raises(StoreUnavailable, match="did not answer"):
            store.events(run_id)
    finally:
        sqlalchemy_event.remove(Engine, "checkout", impatient)
        other.close()


@pytest.mark.skipif(os.name == "nt", reason="a file that is open cannot be moved")
def test_a_file_that_was_moved_is_a_sentence_until_it_is_back(tmp_path: Path) -> None:
    path, away = tmp_path / "runs.sqlite", tmp_path / "away"
    store = Store(f"sqlite:///{path}")
    run_id = store.create(Scenario(), HERE)
    store.append(run_id, [prepared()])
    away.mkdir()

    def move(source: Path, target: Path) -> None:
        for file in source.glob("runs.sqlite*"):
            file.rename(target / file.name)

    move(tmp_path, away)
    for ask in (lambda: store.append(run_id, [truth()]), lambda: store.run(run_id)):
        with pytest.raises(StoreUnavailable, match="moved"):
            ask()
    with ThreadPoolExecutor(8) as threads, pytest.raises(StoreUnavailable, match="moved"):
        list(threads.map(store.run, [run_id] * 50))
    assert not list(tmp_path.glob("runs.sqlite*")), "no new database takes its place"
    Store(f"sqlite:///{path}").create(Scenario(), HERE)
    with pytest.raises(StoreUnavailable, match="moved"):
        store.append(run_id, [truth()])
    for file in tmp_path.glob("runs.sqlite*"):
        file.unlink()
    move(away, tmp_path)
    store.append(run_id, [truth()])
    assert store.events(run_id) == [prepared(), truth()]


def test_positions_in_the_queue(store: Store) -> None:
    first, second, third = (store.create(Scenario(seed=seed), HERE) for seed in range(3))
    elsewhere = store.create(Scenario(), "elsewhere:1:2.00")
    assert [store.position(i) for i in (first, second, third, elsewhere)] == [1, 2, 3, 1]
    store.start(first)
    store.finish(second, "stopped")
    assert [store.position(i) for i in (first, second, third, elsewhere)] == [None, None, 1, 1]


def test_the_list_is_newest_first(store: Store) -> None:
    ids = [store.create(Scenario(seed=seed), HERE) for seed in range(4)]
    assert [record.id for record in store.runs()] == ids[::-1]
    assert [record.scenario.seed for record in store.runs(limit=2)] == [3, 2]


def test_a_visitor_is_shown_their_own_runs_and_those_under_way_first(store: Store) -> None:
    ids = [store.create(Scenario(), HERE, visitor=visitor) for visitor in ("me", "you", "me", "me")]
    assert [record.id for record in store.runs(visitor="me")] == [ids[3], ids[2], ids[0]]
    for run_id in ids[2:]:
        store.finish(run_id, "finished")
    assert [record.id for record in store.runs(visitor="me")] == [ids[0], ids[3], ids[2]]
    assert [record.id for record in store.runs(visitor="me", limit=1)] == ids[:1]
    assert [record.id for record in store.runs()] == [ids[1], ids[0], ids[3], ids[2]]
    assert store.runs(visitor="nobody") == []


@pytest.mark.parametrize(
    ("status", "reason", "answers"),
    [
        ("finished", "iterations", True),
        ("finished", "seconds", True),
        ("finished", "diverged", False),
        ("finished", "vanished", False),
        ("stopped", "stopped", False),
        ("failed", "converged", False),
        ("finished", None, False),
    ],
)
def test_only_a_run_with_an_outcome_answers_the_same_question(
    store: Store, status: Any, reason: Any, answers: bool
) -> None:
    scenario = Scenario(indices=(0, 1))
    run_id = store.create(scenario, HERE)
    assert store.finished_like(scenario) is None
    assert [record.id for record in store.under_way_like(scenario, HERE)] == [run_id]
    assert store.under_way_like(scenario, "elsewhere:1:2.00") == []
    if reason is not None:
        store.append(run_id, [replace(finished(), reason=reason)])
    store.finish(run_id, status)
    found = store.finished_like(scenario)
    assert (found is not None and found.id == run_id) == answers
    assert store.under_way_like(scenario, HERE) == []
    assert store.finished_like(scenario.changed(seed=1)) is None
    assert store.finished_like(scenario, device="cuda") is None


def test_the_latest_answer_counts_and_a_study_is_none(store: Store) -> None:
    ids = [store.create(Scenario(), HERE) for _ in range(2)]
    study = store.create(Scenario(), HERE, study="a" * 64)
    for run_id in (*ids, study):
        store.append(run_id, [finished()])
        store.finish(run_id, "finished")
    found = store.finished_like(Scenario())
    assert found is not None
    assert found.id == ids[1]


def test_a_study_is_found_by_its_key_and_keeps_out_of_lists_and_queues(store: Store) -> None:
    first = store.create(Scenario(), HERE, study="a" * 64)
    attack = store.create(Scenario(seed=1), HERE)
    other = store.create(Scenario(seed=2), HERE, study="b" * 64)
    assert [record.id for record in store.runs()] == [attack]
    assert store.position(attack) == 1
    found = store.studies(["a" * 64, "b" * 64, "c" * 64])
    assert {key: record.id for key, record in found.items()} == {"a" * 64: first, "b" * 64: other}

    store.finish(first, "stopped")
    again = store.create(Scenario(), HERE, study="a" * 64)
    assert store.studies(["a" * 64])["a" * 64].id == again, "the latest answers"
    assert store.run(first).status == "stopped"


def test_the_newest_of_many_runs(store: Store) -> None:
    runs = [store.create(Scenario(seed=seed), HERE) for seed in range(3)]
    for done in (1, 2):
        store.append(runs[0], [Downloading(dataset="a", bytes_done=done, bytes_total=9)])
    store.append(runs[1], [Downloading(dataset="b", bytes_done=5, bytes_total=9), prepared()])
    newest = store.newest(runs, Downloading)
    assert {run_id: event.bytes_done for run_id, event in newest.items()} == {runs[0]: 2, runs[1]: 5}


def test_runs_of_another_version_do_not_spoil_the_list(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Scenario, "to_json", lambda self: '{"a_setting_of_old": 1}')
        store.create(Scenario(), HERE)
    run_id = store.create(Scenario(), HERE)
    assert [record.id for record in store.runs()] == [run_id]


def test_asking_what_is_new_is_one_query(store: Store) -> None:
    run_id = store.create(Scenario(), HERE)
    store.append(run_id, [snapshot(0)])
    queries: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        queries.append(statement)

    sqlalchemy_event.listen(Engine, "before_cursor_execute", note)
    try:
        store.run(run_id)
        assert len(queries) == 1
        store.curve(run_id)
        assert len(queries) == 2
        assert "pictures" not in queries[1]
    finally:
        sqlalchemy_event.remove(Engine, "before_cursor_execute", note)


READER = """
import sys
from deepleak_core.runs.store import Store
store, run_id = Store(sys.argv[1]), sys.argv[2]
seen, record = 0, store.run(run_id)
while record.under_way or seen < record.events:
    record = store.run(run_id)
    events = store.history(run_id)
    assert len(events) >= record.events >= seen
    assert [e.step for e in events] == list(range(len(events)))
    seen = record.events
print(seen)
"""


def test_readers_see_a_growing_run_and_never_a_gap(store: Store, url: str) -> None:
    """Threads on the same store, one on its own store, and another process, all while one writes."""
    run_id = store.create(Scenario(), HERE)
    store.start(run_id)
    command = [sys.executable, "-c", READER, url, run_id]
    other = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)

    def read(reader: Store) -> int:
        seen = 0
        while (record := reader.run(run_id)) and (record.under_way or seen < record.snapshots):
            moments = reader.curve(run_id, start=seen)
            assert [m.n for m in moments] == list(range(seen, seen + len(moments)))
            seen += len(moments)
            if found := reader.pictures(run_id):
                moment, pictures = found
                assert pictures == snapshot(moment.step).pictures()
        return seen

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(read, reader) for reader in (store, store, store, Store(url))]
        for step in range(0, 200, 2):
            store.append(run_id, [snapshot(step), snapshot(step + 1)])
        store.finish(run_id, "finished")
        assert [reader.result(timeout=PATIENCE) for reader in readers] == [200] * 4
    assert other.communicate(timeout=PATIENCE)[0].strip() == "200"
    assert other.returncode == 0


def test_writers_of_one_run_do_not_take_each_others_places(store: Store) -> None:
    run_id = store.create(Scenario(), HERE)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda step: store.append(run_id, [snapshot(step)]), range(40)))
    assert [m.n for m in store.curve(run_id)] == list(range(40))
    assert {m.step for m in store.curve(run_id)} == set(range(40))


def test_orphans_are_interrupted_and_the_living_left_alone(store: Store) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    host, pid, born = HERE.rsplit(":", 2)
    owners = {
        HERE: "running",
        f"{host}:{gone.pid}:{born}": "interrupted",  # no such process
        f"{host}:{pid}:1.00": "interrupted",  # its id belongs to another process now
        # A SQLite file has one host at a time; a server's database may be shared with an app on another machine.
        f"container-of-old:{pid}:{born}": "interrupted" if store.sqlite else "running",
        f"{host}:{os.getppid()}:{psutil.Process(os.getppid()).create_time():.2f}": "running",  # another app, alive
    }
    runs = {}
    for owner in owners:
        runs[owner] = store.create(Scenario(), owner)
        store.start(runs[owner])
    waiting = store.create(Scenario(), f"{host}:{pid}:1.00")
    done = store.create(Scenario(), f"{host}:{pid}:1.00")
    store.finish(done, "finished")

    assert socket.gethostname() == host
    assert store.interrupt_orphans() == 3 + store.sqlite

    for owner, status in owners.items():
        record = store.run(runs[owner])
        assert record is not None
        assert record.status == status
        assert ("run it again" in record.message) == (status == "interrupted")
    assert [r.status for r in (store.run(waiting), store.run(done)) if r] == ["interrupted", "finished"]
    assert store.interrupt_orphans() == 0
    assert store.interrupt_orphans([owner for owner in owners if "container" in owner]) == 1 - store.sqlite
    assert all("container" not in owner for owner in store.beats())


def test_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPLEAK_DB", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    run_id = Store().create(Scenario(), HERE)
    assert (tmp_path / "share" / "deepleak" / "runs.sqlite").exists()
    monkeypatch.setenv("DEEPLEAK_DB", f"sqlite:///{tmp_path}/share/deepleak/runs.sqlite")
    assert Store().run(run_id) is not None


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "sqlite://",
        "sqlite:///file:runs.sqlite?uri=true",
        "sqlite:////proc/no/such/place.sqlite",
        "oracle+nothing://u:secret@h/d",
    ],
)
def test_a_database_that_cannot_be_opened(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="DEEPLEAK_DB") as refusal:
        Store(url)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_no_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "runs.sqlite").write_text("This is a text, not a database. " * 50)
    with pytest.raises(StoreUnavailable, match="could not be opened"):
        Store(f"sqlite:///{tmp_path}/runs.sqlite")
    assert "not a database" in caplog.text


def test_where_the_database_is_stays_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreUnavailable) as refusal:
        Store(f"postgresql+psycopg://anna:secret@/runs?host={tmp_path}")
    assert str(tmp_path) not in str(refusal.value)
    assert str(tmp_path) in caplog.text
    assert "secret" not in caplog.text


def test_a_group_keeps_its_runs_in_order(store: Store) -> None:
    first, other, second = (store.create(Scenario(seed=seed), HERE) for seed in range(3))
    group_id = store.group([second, first])
    assert [record.id for record in store.members(group_id)] == [second, first]
    assert store.members("nowhere") == []
    assert store.members(store.group([other]))[0].scenario == Scenario(seed=1)


# -------------------------------------------------------------------------------------- databases of other versions

FIRST_SCHEMA = """
CREATE TABLE runs (
    id VARCHAR(16) NOT NULL, scenario TEXT NOT NULL, status VARCHAR(12) NOT NULL, attempt INTEGER NOT NULL,
    message TEXT NOT NULL, created DOUBLE NOT NULL, started DOUBLE, ended DOUBLE, owner VARCHAR(300) NOT NULL,
    events INTEGER NOT NULL, snapshots INTEGER NOT NULL, PRIMARY KEY (id)
);
CREATE INDEX runs_by_status ON runs (status, owner, created);
CREATE INDEX runs_by_age ON runs (created);
CREATE TABLE studies (run VARCHAR(16) NOT NULL, "key" VARCHAR(64) NOT NULL, PRIMARY KEY (run));
CREATE INDEX studies_by_key ON studies ("key");
CREATE TABLE events (
    run VARCHAR(16) NOT NULL, seq INTEGER NOT NULL, kind VARCHAR(20) NOT NULL, attempt INTEGER NOT NULL,
    snapshot INTEGER, header TEXT NOT NULL, pictures BLOB, PRIMARY KEY (run, seq)
);
CREATE INDEX events_by_kind ON events (run, kind, seq);
CREATE INDEX events_by_snapshot ON events (run, snapshot);
CREATE TABLE members (
    "group" VARCHAR(16) NOT NULL, place INTEGER NOT NULL, run VARCHAR(16) NOT NULL, PRIMARY KEY ("group", place)
);
INSERT INTO runs VALUES (
    'fM369w3NIu_A', '{"dataset":"cifar10-samples"}', 'finished', 1, '', 1795842248.4, 1795842248.5, 1795842249.0,
    'host:11323:1795842246.71', 1, 0
);
INSERT INTO events VALUES (
    'fM369w3NIu_A', 0, 'Finished', 1, NULL, '{"reason": "iterations", "psnr": [20.0], "noise_psnr": 9.0}', NULL
);
"""


def old_database(path: Path) -> None:
    """A database as the first version of the schema had it, in write-ahead mode."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(FIRST_SCHEMA)
    connection.close()


def of_a_later_version(path: Path) -> None:
    Store(f"sqlite:///{path}").create(Scenario(), HERE)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE meta SET value = '1000' WHERE name = 'schema'")
    connection.close()


@pytest.mark.parametrize("make", [old_database, of_a_later_version])
def test_a_database_of_another_version_is_set_aside(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    for number in (1, 2):
        make(path)
        store = Store(f"sqlite:///{path}")
        assert store.runs() == [], "a new database was begun"
        run_id = store.create(Scenario(), HERE)
        store.append(run_id, [Downloading(dataset="a", bytes_done=1, bytes_total=9)])
        kept = [other for other in tmp_path.glob("runs-*.sqlite") if other.name in store.notice]
        assert len(kept) == 1
        assert len(list(tmp_path.glob("runs-*.sqlite"))) == number
        with sqlite3.connect(kept[0]) as connection:
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        again = Store(f"sqlite:///{path}")
        assert again.notice == ""
        assert again.run(run_id) == store.run(run_id)
        path.unlink()


def test_a_servers_database_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.sqlite"
    old_database(path)
    monkeypatch.setattr(URL, "get_backend_name", lambda self: "postgresql")
    with pytest.raises(StoreUnavailable, match="another version of DeepLeak; set DEEPLEAK_DB to an empty database"):
        Store(f"sqlite:///{path}")
    assert [found.name for found in tmp_path.glob("*.sqlite")] == ["runs.sqlite"]


OPENER = "import sys; from deepleak_core.runs.store import Store; print(Store(sys.argv[1]).notice)"


def test_a_new_database_opened_by_several_processes_at_once_is_never_taken_for_an_old_one(url: str) -> None:
    command = [sys.executable, "-c", OPENER, url]
    started = [
        subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [process.communicate(timeout=PATIENCE)[0].strip() for process in started] == [""] * 4
    assert [process.returncode for process in started] == [0] * 4


# ------------------------------------------------------------------------------------------- requests and keeping


def test_the_owner_of_a_run_sees_what_others_ask_of_it(store: Store) -> None:
    run_id, done = (store.create(Scenario(), HERE) for _ in range(2))
    store.finish(done, "finished")
    assert store.requests() == []
    store.ask(run_id, STOP)
    store.ask(done, STOP)
    assert store.requests() == [Request(run_id, STOP, HERE, under_way=True)], "what has ended cannot be stopped"
    store.finish(run_id, "stopped")
    assert store.requests() == []
    store.ask(done, FORGET)
    store.ask(done, STOP)
    assert store.requests() == [Request(done, FORGET, HERE, under_way=False)]


def test_a_run_that_shall_be_forgotten_is_not_found_any_more(store: Store) -> None:
    scenario = Scenario(seed=3)
    run_id, other = (store.create(scenario, HERE, visitor="me") for _ in range(2))
    group = store.group([run_id, other])
    study = store.create(scenario, HERE, study="a" * 64)
    assert len(store.members(group)) == 2
    store.ask(run_id, FORGET)
    assert store.run(run_id) is None
    assert [record.id for record in store.runs()] == [other]
    assert [record.id for record in store.under_way_like(scenario, HERE)] == [other]
    assert store.members(group) == [], "a comparison is whole or not there"
    store.append(run_id, [finished()])
    store.finish(run_id, "finished")
    assert store.finished_like(scenario) is None
    store.ask(study, FORGET)
    assert store.studies(["a" * 64]) == {}


def test_processes_tell_others_that_they_live(store: Store) -> None:
    for _ in range(2):
        store.beat(HERE)
    assert list(store.beats()) == ([] if store.sqlite else [HERE])


def test_text_that_a_database_does_not_take_is_changed(store: Store) -> None:
    run_id = store.create(Scenario(), HERE)
    store.note(run_id, "a\0b")
    assert store.run(run_id).message == "a?b"
    store.finish(run_id, "failed", "a \udcff file")
    assert store.run(run_id).message == "a ? file"


# ---------------------------------------------------------------------------------------------- who may read a file


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_database_and_the_folder_made_for_it_are_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "runs.sqlite"
    before, mask = mode(tmp_path), os.umask(0)
    try:
        store = Store(f"sqlite:///{path}")
        store.create(Scenario(), HERE)
        assert {mode(folder) for folder in (path.parent, path.parent.parent)} == {0o700}
        assert {file.name: mode(file) for file in path.parent.iterdir()} == {
            "runs.sqlite": 0o600, "runs.sqlite-wal": 0o600, "runs.sqlite-shm": 0o600
        }  # fmt: skip
        assert mode(tmp_path) == before, "a folder that was there is left as it is"
        path.chmod(0o644)
        Store(f"sqlite:///{path}")
        assert mode(path) == 0o600
    finally:
        os.umask(mask)
