"""The address /health tells a monitor whether the app can work, and nothing about anybody."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.browser import running_app
from deepleak_core.runs import connection, dispatcher
from deepleak_core.runs.engine import Engine
from deepleak_core.runs.store import Store
from tests.helpers import ROOT
from tests.runs.engines import PATIENCE, eventually
from tests.test_startup import SLOW
from ui import health
from ui.health import UNKNOWN, Health, Probe, of_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose scheduler is not there."""
    engine = Engine(Store(f"sqlite:///{tmp_path}/runs.sqlite"), scheduler="tcp://127.0.0.1:1")
    yield engine
    engine.close()


def test_a_server_that_nobody_has_visited_is_well(tmp_path: Path) -> None:
    with running_app(tmp_path / "runs.sqlite") as url, urllib.request.urlopen(f"{url}/health") as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert json.load(answer) == {"ok": True, "store": "not opened yet", "workers": None}


def test_asking_loads_nothing() -> None:
    code = f"import sys; from ui import health; print(health.of_app(), [n for n in {SLOW} if n in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == f"{Health()} []"


def test_while_workers_start_it_is_well(engine: Engine) -> None:
    found = of_engine(engine)
    assert found == Health("answers", None)
    assert found.ok


def test_where_no_worker_came_it_is_not_well(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "STARTING_SECONDS", 0.0)
    found = of_engine(engine)
    assert found == Health("answers", 0)
    assert not found.ok


def test_where_none_can_come_that_is_not_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(dispatcher, "STARTING_SECONDS", 10 * PATIENCE)
    engine = Engine(Store(f"sqlite:///{tmp_path}/runs.sqlite"), scheduler="tcp://127.0.0.1:1")
    eventually(lambda: of_engine(engine) == Health("answers", 0))
    engine.close()


def test_a_database_that_does_not_answer_is_told(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite").rename(tmp_path / "moved.sqlite")
    found = of_engine(engine)
    assert found.store == "does not answer"
    assert not found.ok


def test_with_a_store_and_a_worker_it_is() -> None:
    assert Health("answers", 1).ok
    assert not Health("takes no writes", 1).ok


def test_a_question_that_hangs_is_asked_once_and_answered_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = [], threading.Event()

    def hang() -> Health:
        asked.append(1)
        go_on.wait(60)
        return Health("answers", 1)

    monkeypatch.setattr(health, "of_app", hang)
    monkeypatch.setattr(health, "LONGEST_SECONDS", 0.1)

    async def ask() -> list[Health]:
        probe = Probe()
        first = await asyncio.gather(probe.ask(), probe.ask())
        go_on.set()
        monkeypatch.setattr(health, "LONGEST_SECONDS", 60)
        return [*first, await probe.ask()]

    assert asyncio.run(ask()) == [UNKNOWN, UNKNOWN, Health("answers", 1)]
    assert len(asked) == 1
