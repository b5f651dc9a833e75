"""The app with what it stands on, as real processes of this machine, and how each of these is made to fail."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import create_engine, make_url, text

from benchmarks.browser import App
from benchmarks.viewers import Seen
from deepleak_core.errors import StoreUnavailable
from deepleak_core.runs.record import RunRecord
from deepleak_core.runs.store import Store
from tests.runs.cluster import Cluster
from tests.runs.disk import fill, mounted
from tests.runs.postgresql import Server, started_server

PATIENCE_SECONDS = 240.0  # after which something counts as never to happen
LOOK_SECONDS = 0.2  # between looks


@dataclass
class Scene:
    """The app with its run database. `short` asks for shorter faults."""

    app: App
    database: str
    folder: Path
    short: bool = False
    server: Server | None = None
    cluster: Cluster | None = None
    questions: int = 0

    def link(self, seconds: float) -> str:
        """A question of its own, whose attack ends after so many seconds."""
        self.questions += 1
        return f"indices=0,3&model=lenet&max_seconds={seconds:g}&seed={self.questions}"

    def store(self) -> Store:
        """A reader of its own, waited for while the database is out of reach. Raises `StoreUnavailable`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return Store(self.database)
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_SECONDS)

    def workers(self) -> list[psutil.Process]:
        """The worker processes of the app."""
        assert self.app.process is not None
        children = psutil.Process(self.app.process.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


Fault = Callable[[Scene, Seen], None]


def until(happened: Callable[[], object], *, seconds: float = PATIENCE_SECONDS, required: bool = True) -> None:
    """Wait until something is true. Raises TimeoutError where that takes too long and is `required`."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(StoreUnavailable):
            if happened():
                return
        if time.monotonic() > deadline:
            if required:
                raise TimeoutError("It did not happen.")
            return
        time.sleep(LOOK_SECONDS)


def under_way(store: Store) -> list[RunRecord]:
    """The runs that have not ended."""
    return [record for record in store.runs(1000) if record.under_way]


def ended(store: Store, run_id: str) -> RunRecord:
    """A run once it has ended."""
    until(lambda: (record := store.run(run_id)) is not None and not record.under_way)
    record = store.run(run_id)
    assert record is not None
    return record


# ------------------------------------------------------------------------------------------ workers and the app


def kill_worker_once(scene: Scene, seen: Seen) -> None:
    """The run is started again from its beginning."""
    scene.workers()[0].kill()
    moments = len(seen.frames)
    until(lambda: len(seen.frames) > moments)


def kill_workers(scene: Scene, seen: Seen) -> None:
    """A worker is killed every few seconds, until the run is given up."""
    for _ in range(2 if scene.short else 4):
        for worker in scene.workers():
            worker.kill()
        time.sleep(4)


def kill_app(scene: Scene, seen: Seen) -> None:
    """The app is killed, and started again on the same database."""
    scene.app.stop(at_once=True)
    time.sleep(1)
    scene.app.start()


# ------------------------------------------------------------------------------------------------------- SQLite


def lock(scene: Scene, seen: Seen) -> None:
    """Another program holds the write lock for longer than a connection waits for it."""
    other = sqlite3.connect(_file(scene), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    time.sleep(13 if scene.short else 20)
    other.execute("ROLLBACK")
    other.close()


def fill_for_a_while(scene: Scene, seen: Seen) -> None:
    """All space of the file system is taken, and given back."""
    _fill(scene, 8)


def fill_for_long(scene: Scene, seen: Seen) -> None:
    """All space of the file system is taken for longer than the writer is patient."""
    _fill(scene, 75)


def _fill(scene: Scene, seconds: float) -> None:
    with sqlite3.connect(_file(scene)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # or what it holds already would have room for a while
    filler = fill(scene.folder)
    time.sleep(seconds)
    filler.unlink()


def make_read_only(scene: Scene, seen: Seen) -> None:
    """The app is started while its file system can only be read; later it can be written again."""
    scene.app.stop()
    gc.collect()  # closes connections of this process; a file that is open for writing keeps a disk writable
    subprocess.run(["mount", "-o", "remount,ro", str(scene.folder)], check=True)
    try:
        scene.app.start()
        until(lambda: any("run database" in sentence for sentence in seen.sentences), seconds=60, required=False)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(scene.folder)], check=True)


def move_file_away(scene: Scene, seen: Seen) -> None:
    """The files of the database get another name for a while."""
    files = list(scene.folder.glob("runs.sqlite*"))
    for file in files:
        file.rename(file.with_name("moved-" + file.name))
    time.sleep(5 if scene.short else 15)
    for file in files:
        file.with_name("moved-" + file.name).rename(file)


def _file(scene: Scene) -> Path:
    return scene.folder / "runs.sqlite"


@contextmanager
def with_sqlite(short: bool) -> Iterator[Scene]:
    """The app on a small file system in memory, where one may be mounted, else in a folder."""
    with tempfile.TemporaryDirectory(prefix="deepleak-faults-") as name, mounted(folder := Path(name)):
        database = f"sqlite:///{folder}/runs.sqlite"
        with App({"DEEPLEAK_DB": database}, quiet=True) as app:
            yield Scene(app, database, folder, short)


# --------------------------------------------------------------------------------------------------- PostgreSQL


@contextmanager
def with_postgresql(short: bool) -> Iterator[Scene]:
    """The app on a PostgreSQL server of its own."""
    with started_server() as server, App({"DEEPLEAK_DB": server.address}, quiet=True) as app:
        yield Scene(app, server.address, server.folder, short, server)


def stop_server(scene: Scene, seen: Seen) -> None:
    """The server of the database is gone, and comes back."""
    assert scene.server is not None
    scene.server.stop()
    time.sleep(5 if scene.short else 15)
    scene.server.start()


def forbid_writing(scene: Scene, seen: Seen) -> None:
    """The server takes no writes for a while."""
    name = make_url(scene.database).database
    _order(scene, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    time.sleep(5 if scene.short else 15)
    _order(scene, "SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET ALL")


def _order(scene: Scene, *orders: str) -> None:
    """Give a server orders, and end all connections to it."""
    engine = create_engine(scene.database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for order in orders:
            connection.execute(text(order))
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()"
        connection.execute(text(f"{others} AND datname = current_database()"))
    engine.dispose()


# ---------------------------------------------------------------------------------------------------- a cluster


@contextmanager
def with_cluster(short: bool) -> Iterator[Scene]:
    """The app with a Dask scheduler and a worker of their own."""
    with tempfile.TemporaryDirectory(prefix="deepleak-faults-") as name:
        folder, database = Path(name), f"sqlite:///{name}/runs.sqlite"
        cluster = Cluster(folder)
        _start(cluster)
        try:
            with App({"DEEPLEAK_DB": database, "DEEPLEAK_SCHEDULER": cluster.address}, quiet=True) as app:
                yield Scene(app, database, folder, short, cluster=cluster)
        finally:
            cluster.end()


def lose_scheduler(scene: Scene, seen: Seen) -> None:
    """The scheduler and its worker are killed, and come back."""
    assert scene.cluster is not None
    scene.cluster.end()
    until(lambda: any("scheduler" in sentence for sentence in seen.sentences), seconds=60, required=False)
    _start(scene.cluster)


def _start(cluster: Cluster) -> None:
    cluster.start_scheduler()
    cluster.start_worker()
