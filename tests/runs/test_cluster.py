"""A cluster that others have started: what is told while it has no worker or another version, and what is resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deepleak_core.runs import roster
from deepleak_core.runs.engine import Engine
from deepleak_core.runs.store import Store
from deepleak_core.version import VERSION
from tests.helpers import ROOT
from tests.runs.cluster import Cluster
from tests.runs.engines import LONG, SHORT, ended, eventually, is_recorded_whole, record_of, running, worker_processes

OLD = "0.0.1"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """No process yet, and the address of a scheduler that may be started."""
    folder = tmp_path / "dask"
    folder.mkdir()
    cluster = Cluster(folder)
    yield cluster
    cluster.end()


@pytest.fixture
def engine(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[], Engine]]:
    """Makes an engine that uses the cluster; it is closed before that ends."""
    with ExitStack() as stack:

        def made() -> Engine:
            made = Engine(Store(f"sqlite:///{tmp_path}/runs.sqlite"), scheduler=cluster.address)
            stack.callback(made.close)
            return made

        yield made


@pytest.fixture
def other_version(tmp_path: Path) -> Path:
    """A folder with the package in another version."""
    package = tmp_path / "other" / "deepleak_core"
    package.mkdir(parents=True)
    for path in (ROOT / "deepleak_core").iterdir():
        if path.name not in ("version.py", "__pycache__"):
            (package / path.name).symlink_to(path)
    (package / "version.py").write_text(f'VERSION = "{OLD}"\n')
    return package.parent


def test_lost_and_found_again(
    cluster: Cluster, engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPLEAK_SCHEDULER", cluster.address)
    cluster.start_scheduler()
    cluster.start_worker()
    before = worker_processes()
    used = Engine(Store(f"sqlite:///{tmp_path}/runs.sqlite"))
    try:
        run_id = used.submit(SHORT, again=True)
        assert ended(used, run_id).status == "finished"
        is_recorded_whole(used, run_id)
        assert worker_processes() == before
        assert used.workers == 1

        run_id = used.submit(LONG, again=True)
        running(used, run_id)
        cluster.end()
        record = ended(used, run_id)
        assert record.status == "failed"
        assert f"scheduler at {cluster.address}" in record.message
        assert len(used.store.curve(run_id)) >= 2

        cluster.start_scheduler()
        cluster.start_worker()
        run_id = used.submit(SHORT, again=True)
        assert ended(used, run_id).status == "finished"
        is_recorded_whole(used, run_id)
    finally:
        used.close()


def test_without_a_scheduler_a_run_fails_with_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepleak_core.runs.connection.CONNECT_SECONDS", 0.5)
    engine = Engine(Store(f"sqlite:///{tmp_path}/runs.sqlite"), scheduler="tcp://127.0.0.1:1")
    try:
        record = ended(engine, engine.submit(SHORT, again=True))
        assert record.status == "failed"
        assert "tcp://127.0.0.1:1" in record.message
    finally:
        engine.close()


def test_without_a_worker_a_run_says_so_until_one_comes(
    cluster: Cluster, engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "NO_WORKER_SECONDS", 0.5)
    cluster.start_scheduler()
    used = engine()
    run_id = used.submit(SHORT, again=True)
    assert cluster.address in eventually(lambda: used.hindrance(run_id))
    assert record_of(used, run_id).status == "queued"
    cluster.start_worker()
    assert ended(used, run_id).status == "finished"
    assert used.hindrance(run_id) == ""


def test_a_run_is_given_up_where_no_worker_ever_comes(
    cluster: Cluster, engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "GIVEN_UP_SECONDS", 0.5)
    cluster.start_scheduler()
    used = engine()
    record = ended(used, used.submit(SHORT, again=True))
    assert record.status == "failed"
    assert cluster.address in record.message


def test_a_run_goes_on_when_its_only_worker_is_replaced(cluster: Cluster, engine: Callable[[], Engine]) -> None:
    cluster.start_scheduler()
    cluster.start_worker()
    used = engine()
    run_id = used.submit(SHORT, again=True)
    assert ended(used, run_id).status == "finished"
    run_id = used.submit(LONG, again=True)
    running(used, run_id)
    cluster.end(slice(1, None))
    eventually(lambda: used.position(run_id))
    eventually(lambda: "started again" in record_of(used, run_id).message)
    cluster.start_worker()
    running(used, run_id, attempt=2)
    used.stop(run_id)
    assert ended(used, run_id).status == "stopped"


def test_a_worker_of_another_version_gets_no_run(
    cluster: Cluster, engine: Callable[[], Engine], other_version: Path
) -> None:
    cluster.start_scheduler()
    cluster.start_worker(other_version)
    used = engine()
    run_id = used.submit(SHORT, again=True)
    sentence = eventually(lambda: used.hindrance(run_id))
    assert OLD in sentence
    assert VERSION in sentence
    assert (record_of(used, run_id).status, used.workers) == ("queued", 0)
    cluster.start_worker()
    assert ended(used, run_id).status == "finished"
    assert (used.hindrance(run_id), used.workers) == ("", 1)


def test_a_scheduler_without_the_package_is_told(
    cluster: Cluster, engine: Callable[[], Engine], tmp_path: Path
) -> None:
    cluster.start_scheduler(tmp_path)
    cluster.start_worker()
    used = engine()
    record = ended(used, used.submit(SHORT, again=True))
    assert record.status == "failed"
    assert cluster.address in record.message
    assert "cannot import deepleak_core" in record.message
