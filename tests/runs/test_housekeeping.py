"""The housekeeper: what is asked of another app's run happens, and runs of apps that are gone are ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deepleak_core.errors import NotAllowed, RunRejected
from deepleak_core.runs import housekeeping
from deepleak_core.runs.engine import Engine
from deepleak_core.runs.housekeeping import SILENT_SECONDS, Silence
from deepleak_core.runs.keeping import MB, Keeping
from deepleak_core.runs.limits import Limits
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from tests.runs.engines import LONG, SHORT, ended, environment, eventually, running
from tests.runs.test_keeping import recorded

HERE = this_process()

APP = """
import sys, time
from deepleak_core.runs.engine import Engine
from deepleak_core.scenario import Scenario
from deepleak_core.runs.store import Store

if __name__ == "__main__":
    engine = Engine(Store(sys.argv[1]))
    print(*[engine.submit(Scenario.from_json(sys.argv[2]), again=True, visitor=name) for name in "abcd"], flush=True)
    time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepleak_core.runs.connection.CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(housekeeping, "TIDY_SECONDS", 0.2)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An app that has no workers."""
    engine = Engine(Store(f"sqlite:///{tmp_path}/runs.sqlite"), scheduler="tcp://127.0.0.1:1")
    yield engine
    engine.close()


@pytest.fixture
def other_app(engine: Engine, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Another app with the same database, and its runs: the first is under way, the others wait."""
    script = tmp_path / "app.py"
    script.write_text(APP)
    command = [sys.executable, str(script), f"sqlite:///{tmp_path}/runs.sqlite", LONG.to_json()]
    app = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    assert app.stdout is not None
    runs = app.stdout.readline().split()
    children = psutil.Process(app.pid).children(recursive=True)
    yield app, runs
    app.kill()
    app.wait()
    eventually(lambda: not any(child.is_running() for child in children))


def test_runs_of_another_app_are_stopped_forgotten_and_ended(engine: Engine, other_app: tuple) -> None:
    app, (begun, waits, forgotten, last) = other_app
    running(engine, begun)
    with pytest.raises(NotAllowed):
        engine.stop(begun, visitor="b")
    engine.stop(waits, visitor="b")
    assert ended(engine, waits).status == "stopped"
    engine.stop(begun, visitor="a")
    assert ended(engine, begun).status == "stopped"

    running(engine, forgotten)
    with pytest.raises(NotAllowed):
        engine.forget(forgotten, visitor="a")
    engine.forget(forgotten, visitor="c")
    assert engine.store.run(forgotten) is None
    eventually(lambda: not engine.store.events(forgotten))
    eventually(lambda: not engine.store.requests())

    running(engine, last)
    app.kill()
    app.wait()
    record = ended(engine, last)
    assert (record.status, "run it again" in record.message) == ("interrupted", True)
    assert len(engine.store.curve(last)) >= 2


def test_what_is_too_old_or_too_much_goes_by_itself(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/runs.sqlite")
    runs = [recorded(store, visitor="me") for _ in range(3)]
    size = store.size() / 3
    engine = Engine(store, scheduler="tcp://127.0.0.1:1", keeping=Keeping(days=None, megabytes=2.5 * size / MB))
    try:
        eventually(lambda: store.size() <= 2.5 * size)
        assert [record.id for record in store.runs()] == runs[:0:-1]
        with pytest.raises(NotAllowed):
            engine.keep(runs[1], True, visitor="you")
        engine.keep(runs[1], True, visitor="me")
        with pytest.raises(RunRejected, match="half of the space"):
            engine.keep(runs[2], True, visitor="me")
        engine.forget(runs[1], visitor="me")
        eventually(lambda: store.size() == size)
    finally:
        engine.close()


def test_a_run_that_this_process_does_not_know_is_ended(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "LOST_SECONDS", 0.0)
    record = ended(engine, engine.store.create(SHORT, HERE))
    assert record.status == "failed"
    assert "run it again" in record.message


def test_the_caps_of_an_engine_hold_for_what_it_is_asked(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/runs.sqlite")
    engine = Engine(store, scheduler="tcp://127.0.0.1:1", limits=Limits(batch_size=2))
    try:
        with pytest.raises(ValueError, match="batches of 2 images at most"):
            engine.submit_group([SHORT, Scenario(batch_size=3)])
        assert store.runs() == []
    finally:
        engine.close()


def test_a_process_is_silent_when_its_mark_does_not_change() -> None:
    silence = Silence()
    assert silence.after({"a": 5.0, "b": 9.0}, now=0) == []
    assert silence.after({"a": 5.0, "b": 10.0}, now=SILENT_SECONDS + 1) == ["a"]
    silence.forget()
    assert silence.after({"a": 5.0, "b": 10.0}, now=2 * SILENT_SECONDS + 9) == [], "nothing could be read meanwhile"
