"""The engine with real workers: every event is recorded, and runs survive what dies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from distributed import Client

from deepleak_core.errors import DeepLeakError, NotAllowed, RunRejected, UnsupportedScenario
from deepleak_core.events import (
    Event,
    Finished,
    LastLayerRead,
    Prepared,
    Scored,
    StrategyAnswered,
)
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs import dispatcher, workers
from deepleak_core.runs.engine import Engine
from deepleak_core.runs.limits import Limits
from deepleak_core.runs.log import FINGERPRINT_DIGITS
from deepleak_core.runs.store import Store
from deepleak_core.runs.tasks import Attack
from deepleak_core.scenario import Scenario
from deepleak_core.studies.label_accuracy import Study
from tests.runs.engines import (
    LONG,
    PATIENCE,
    SHORT,
    ended,
    environment,
    eventually,
    is_recorded_whole,
    record_of,
    running,
)


@dataclass(frozen=True)
class Stubborn(Attack):
    """One iteration that takes long, as of a large model: until a file is there. The event before it is real."""

    key: str = "stubborn"
    until: str = ""

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        yield next(super().run(stop))
        eventually(Path(self.until).exists)


@dataclass(frozen=True)
class Broken(Attack):
    """An error that nobody expects."""

    key: str = "broken"

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        raise ZeroDivisionError("nobody thought of this\nnot at all")
        yield


@contextmanager
def own_client(engine: Engine) -> Iterator[Client]:
    """A client of the test's own beside that of the engine."""
    with Client(engine.scheduler_address, set_as_default=False) as client:
        yield client


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """The events of the log and their facts."""
    return [(record.msg, record.facts) for record in caplog.records if hasattr(record, "facts")]


def worker_of(engine: Engine) -> int:
    """The process of the worker, once it is connected."""
    eventually(lambda: engine.workers)
    with own_client(engine) as client:
        (pid,) = eventually(lambda: client.run(os.getpid)).values()
    return int(pid)


def kill(worker: int) -> None:
    os.kill(worker, signal.SIGKILL)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    logging.getLogger("deepleak_core").setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DEEPLEAK_SCHEDULER", raising=False)
        patch.setenv("DEEPLEAK_THREADS", "1")
        patch.setattr(dispatcher, "STORED_SECONDS", PATIENCE)
        engine = Engine(Store(f"sqlite:///{tmp_path_factory.mktemp('engine')}/runs.sqlite"))
        yield engine
        engine.close()


# ---------------------------------------------------------------------------------------------- the usual course


def test_a_run_is_executed_and_recorded_whole(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    run_id = engine.submit(SHORT, again=True)
    record = ended(engine, run_id)
    assert (record.status, record.attempt, record.message, record.scenario) == ("finished", 1, "", SHORT)
    is_recorded_whole(engine, run_id)
    assert engine.workers == 1
    eventually(lambda: "CPU, 1 thread" in [facts.get("device") for _, facts in events(caplog)])
    eventually(lambda: "run finished" in [event for event, _ in events(caplog)])  # told after it is stored
    told = {event: facts for event, facts in events(caplog) if facts.get("run") == run_id}
    assert list(told) == ["run queued", "run started", "run finished"]
    assert told["run queued"]["scenario"] == record.fingerprint[:FINGERPRINT_DIGITS]
    assert (told["run finished"]["reason"], told["run finished"]["seconds"] > 0) == ("iterations", True)


def test_the_worker_uses_the_threads_it_was_given(engine: Engine) -> None:
    prepared = engine.store.latest(engine.store.runs()[-1].id, Prepared)
    assert isinstance(prepared, Prepared)
    assert prepared.device == "CPU, 1 thread"


def test_runs_wait_in_line_and_any_of_them_can_be_stopped(engine: Engine) -> None:
    first, second, third = (engine.submit(scenario, again=True) for scenario in (LONG, LONG, SHORT))
    running(engine, first)
    assert [engine.store.position(i) for i in (first, second, third)] == [None, 1, 2]

    engine.stop(second)
    assert record_of(engine, second).status == "stopped"
    assert engine.store.position(third) == 1
    assert engine.store.events(second) == []

    engine.stop(first)
    assert ended(engine, first).status == "stopped"
    assert ended(engine, third).status == "finished"
    is_recorded_whole(engine, third)


def test_a_stopped_run_ends_with_its_outcome(engine: Engine) -> None:
    run_id = engine.submit(LONG, again=True)
    running(engine, run_id)
    engine.stop(run_id)
    engine.stop(run_id)
    assert ended(engine, run_id).status == "stopped"
    finished = eventually(lambda: engine.store.latest(run_id, Finished))
    assert isinstance(finished, Finished)
    assert finished.reason == "stopped"
    assert finished.step == engine.store.curve(run_id)[-1].step


def test_a_run_is_stopped_by_who_started_it_and_by_nobody_else(engine: Engine) -> None:
    begun, waits = (engine.submit(LONG.changed(seed=seed), visitor="me") for seed in (21, 22))
    assert engine.submit(LONG.changed(seed=22), visitor="you") == waits, "a run that two have asked for"
    study = engine.study(Study(scenario=BATCH.changed(seed=21)), visitor="me")
    running(engine, begun)
    for run_id in (begun, waits, study, "none"):
        for stranger in ("you", ""):
            with pytest.raises(NotAllowed, match="Only who started this run may stop it"):
                engine.stop(run_id, visitor=stranger)
    assert all(record_of(engine, run_id).under_way for run_id in (begun, waits, study))
    engine.stop(study, visitor="me")
    engine.stop(waits, visitor="me")
    engine.stop(begun)  # no visitor: the command line, or the presenter
    assert [ended(engine, run_id).status for run_id in (begun, waits, study)] == ["stopped"] * 3


def test_a_run_is_forgotten_under_way_and_while_it_waits(engine: Engine) -> None:
    begun, waits = (engine.submit(LONG.changed(seed=seed), visitor="me") for seed in (23, 24))
    running(engine, begun)
    with pytest.raises(NotAllowed, match="Only who started this run may forget it"):
        engine.forget(begun, visitor="you")
    for run_id in (waits, begun):
        engine.forget(run_id, visitor="me")
        assert engine.store.run(run_id) is None
    assert not {begun, waits} & {record.id for record in engine.store.runs()}
    eventually(lambda: not engine.store.requests() and not engine.store.events(begun))
    assert ended(engine, engine.submit(SHORT.changed(seed=23))).status == "finished"


def test_visitors_take_turns_and_none_has_more_than_a_share(engine: Engine) -> None:
    def ask(visitor: str, seed: int) -> str:
        return engine.submit(SHORT.changed(seed=seed), again=True, visitor=visitor)

    busy = engine.submit(LONG, again=True, visitor="one")
    running(engine, busy)
    greedy = [ask("one", seed) for seed in (31, 32)]
    with pytest.raises(RunRejected, match="You have 3 runs"):
        ask("one", 33)
    others = [ask("two", 34), ask("three", 35), ask("two", 36)]
    first, second = greedy
    turns = [others[0], others[1], first, others[2], second]
    assert [engine.position(run_id) for run_id in turns] == [1, 2, 3, 4, 5]
    assert engine.position(busy) is None
    engine.stop(busy)
    assert [ended(engine, run_id).status for run_id in turns] == ["finished"] * 5
    begun = [record_of(engine, run_id).started for run_id in turns]
    assert begun == sorted(begun)


def test_a_worker_at_a_long_iteration_is_not_waited_for(engine: Engine, tmp_path: Path) -> None:
    run_id = engine.study(Stubborn(LONG, until=str(tmp_path / "done")))
    eventually(lambda: record_of(engine, run_id).events)
    engine.stop(run_id)
    next_one = engine.submit(SHORT, again=True)
    assert ended(engine, run_id).status == "stopped"
    assert record_of(engine, next_one).status == "queued", "its worker is not done yet"
    (tmp_path / "done").touch()
    assert ended(engine, next_one).status == "finished"


def test_the_line_has_an_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "max_waiting", 1)
    runs = [engine.submit(LONG, again=True), engine.submit(LONG, again=True)]
    with pytest.raises(RunRejected, match="1 runs wait already and no more than 1 may; stop one"):
        engine.submit(LONG, again=True)
    for run_id in runs[::-1]:
        engine.stop(run_id)
        assert ended(engine, run_id).status == "stopped"
    assert ended(engine, engine.submit(SHORT, again=True)).status == "finished"


BATCH = Scenario(indices=(0, 3), model="lenet")
SPREAD = Scenario(composition="random", model="lenet")


def test_studies_wait_for_attacks_and_the_shorter_ones_go_first(engine: Engine) -> None:
    attack = engine.submit(LONG, again=True)
    running(engine, attack)
    point = engine.study(Study(scenario=SPREAD, repeats=2))
    batch = engine.study(Study(scenario=BATCH))
    second = engine.submit(SHORT, again=True)
    assert engine.store.position(second) == 1
    assert engine.study(Study(scenario=BATCH)) == batch, "one computation for all who ask"
    engine.stop(attack)
    assert ended(engine, point).status == ended(engine, batch).status == "finished"
    begun = [record_of(engine, run_id).started for run_id in (second, batch, point)]
    assert begun == sorted(begun)
    kinds = [type(event) for event in engine.store.events(batch)]
    assert kinds.count(StrategyAnswered) == len(STRATEGIES) == len(kinds) - 1
    assert LastLayerRead in kinds
    assert [event.draws for event in engine.store.events(point) if isinstance(event, Scored)] == [1, 2]
    assert engine.study(Study(scenario=SPREAD, repeats=2)) == point, "an answer stays"
    assert not {point, batch} & {record.id for record in engine.store.runs()}


def test_a_study_makes_way_for_an_attack_and_goes_on_afterwards(engine: Engine) -> None:
    study = engine.study(Study(scenario=SPREAD.changed(seed=7), repeats=10**6))
    eventually(lambda: engine.store.events(study))
    assert ended(engine, engine.submit(SHORT, again=True)).status == "finished"
    before = len(engine.store.events(study))
    eventually(lambda: len(engine.store.events(study)) > before)
    assert record_of(engine, study).under_way
    engine.stop(study)
    assert ended(engine, study).status == "stopped"


def test_a_study_can_be_stopped_and_asked_again(engine: Engine) -> None:
    long, waits = (Study(scenario=SPREAD.changed(seed=seed), repeats=10**6) for seed in (1, 2))
    runs = [engine.study(study) for study in (long, waits)]
    eventually(lambda: engine.store.events(runs[0]))
    for run_id in runs[::-1]:
        engine.stop(run_id)
        assert ended(engine, run_id).status == "stopped"
    assert engine.store.events(runs[0])
    assert not engine.store.events(runs[1])
    again = engine.study(long)
    assert again not in runs
    engine.stop(again)
    assert ended(engine, again).status == "stopped"


def test_the_line_of_studies_has_an_end_too(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "max_waiting_studies", 1)
    attack = engine.submit(LONG, again=True)
    running(engine, attack)
    first = engine.study(Study(scenario=BATCH.changed(seed=5)))
    with pytest.raises(RunRejected, match="1 studies wait already and no more than 1 may; stop one"):
        engine.study(Study(scenario=BATCH.changed(seed=6)))
    with pytest.raises(UnsupportedScenario, match="model was 'vgg'"):
        engine.study(Study(scenario=Scenario(model="vgg")))
    engine.stop(attack)
    assert ended(engine, first).status == "finished"


def test_what_cannot_run_is_refused_at_once(engine: Engine) -> None:
    before = len(engine.store.runs())
    with pytest.raises(UnsupportedScenario, match="attack was 'nothing'"):
        engine.submit(Scenario(attack="nothing"))
    assert len(engine.store.runs()) == before


# ------------------------------------------------------------------------------------ same question, same answer


def test_equal_questions_share_one_run_while_it_is_under_way_and_afterwards(engine: Engine) -> None:
    scenario = LONG.changed(seed=11, max_iterations=300)
    start = threading.Barrier(8)

    def press(visitor: str) -> str:
        start.wait()
        return engine.submit(scenario, visitor=visitor)

    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(press, "abcdefgh"))
    assert len(set(asked)) == 1
    assert ended(engine, asked[0]).status == "finished"
    assert engine.submit(scenario.changed(device="cpu")) == asked[0], "the device it was run on anyway"
    assert record_of(engine, asked[0]).visitor in "abcdefgh"
    others = [engine.submit(scenario.changed(seed=12)), engine.submit(scenario, again=True)]
    assert len({asked[0], *others}) == 3
    assert engine.submit(scenario) == asked[0], "a finished run is better than one under way"
    for run_id in others:
        engine.stop(run_id)
        ended(engine, run_id)


def test_a_run_that_was_stopped_is_no_answer(engine: Engine) -> None:
    scenario = LONG.changed(seed=13)
    stopped = engine.submit(scenario)
    running(engine, stopped)
    engine.stop(stopped)
    again = engine.submit(scenario)
    assert again != stopped, "not even before it has ended"
    engine.stop(again)
    assert [ended(engine, run_id).status for run_id in (stopped, again)] == ["stopped"] * 2


def test_a_run_that_lower_limits_have_ended_is_no_answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = LONG.changed(seed=16)
    monkeypatch.setattr(engine, "limits", Limits(iterations=10))
    short = engine.submit(scenario)
    assert ended(engine, short).status == "finished"
    assert engine.submit(scenario) == short
    monkeypatch.setattr(engine, "limits", Limits(iterations=20))
    longer = engine.submit(scenario)
    assert longer != short
    assert ended(engine, longer).scenario == scenario
    assert engine.submit(scenario.changed(max_iterations=20)) == longer, "the same question, where 20 are the most"


def test_a_group_takes_the_answers_there_are_and_runs_the_others(engine: Engine) -> None:
    known, new = SHORT.changed(seed=14), SHORT.changed(seed=15)
    answer = engine.submit(known)
    assert ended(engine, answer).status == "finished"
    first, second = runs_of(engine, engine.submit_group([known, new], visitor="me"))
    assert first == answer
    assert ended(engine, second).visitor == "me"
    assert runs_of(engine, engine.submit_group([new, known], "in turn")) == [second, first]
    assert not {first, second} & set(runs_of(engine, engine.submit_group([known, new], again=True)))


def test_a_crowd_with_one_question_needs_no_place_in_the_line(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = engine.submit(SHORT)
    ended(engine, answer)
    busy = engine.submit(LONG, again=True)
    monkeypatch.setattr(engine, "max_waiting", 0)
    assert engine.submit(LONG) == busy
    assert engine.submit(SHORT) == answer
    engine.stop(busy)
    ended(engine, busy)


# ------------------------------------------------------------------------------------ several runs as one job


def runs_of(engine: Engine, group_id: str) -> list[str]:
    return [record.id for record in engine.store.members(group_id)]


def test_a_group_runs_side_by_side_and_is_recorded_run_by_run(engine: Engine) -> None:
    scenarios = [SHORT.changed(max_iterations=100), SHORT.changed(max_iterations=100, wrong_labels=1)]
    first, second = runs_of(engine, engine.submit_group(scenarios, again=True))
    for run_id, scenario in zip((first, second), scenarios, strict=True):
        record = ended(engine, run_id)
        assert (record.status, record.attempt, record.scenario) == ("finished", 1, scenario)
        kinds = [type(event) for event in engine.store.events(run_id)]
        assert kinds.count(Prepared) == kinds.count(Finished) == 1
        assert kinds[-1] is Finished
        finished = engine.store.latest(run_id, Finished)
        assert finished is not None
        assert engine.store.curve(run_id)[-1].step == finished.step > 0
    assert record_of(engine, second).started < record_of(engine, first).ended, "neither waits for the other"


def test_a_group_in_turn_records_each_run_as_it_ends(engine: Engine) -> None:
    first, second = runs_of(engine, engine.submit_group([SHORT, LONG], "in turn", again=True))
    running(engine, second)
    assert record_of(engine, first).status == "finished"
    is_recorded_whole(engine, first)
    engine.stop(first)  # it has ended itself, its group has not
    assert ended(engine, second).status == "stopped"
    assert record_of(engine, first).status == "finished"


def test_a_group_waits_in_one_place_and_is_stopped_as_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "max_waiting", 1)
    busy = engine.submit(LONG, again=True)
    running(engine, busy)
    waiting = runs_of(engine, engine.submit_group([LONG, LONG, LONG], again=True))
    with pytest.raises(RunRejected, match="1 runs wait already"):
        engine.submit(SHORT, again=True)
    engine.stop(waiting[1])
    assert [record_of(engine, run_id).status for run_id in waiting] == ["stopped"] * 3
    engine.stop(busy)
    assert ended(engine, busy).status == "stopped"
    begun = runs_of(engine, engine.submit_group([LONG, LONG], again=True))
    running(engine, begun[1])
    engine.stop(begun[0])
    assert [ended(engine, run_id).status for run_id in begun] == ["stopped"] * 2
    for run_id in begun:
        eventually(lambda run_id=run_id: engine.store.latest(run_id, Finished))


def test_a_group_that_cannot_run_leaves_no_run(engine: Engine) -> None:
    before = len(engine.store.runs())
    with pytest.raises(UnsupportedScenario, match="attack was 'nothing'"):
        engine.submit_group([SHORT, Scenario(attack="nothing")], again=True)
    assert len(engine.store.runs()) == before


def test_what_fails_in_a_group_ends_those_that_have_not_ended(engine: Engine, tmp_path: Path) -> None:
    gone = Scenario(dataset="folder", images=str(tmp_path / "gone"))
    done, failed, never = runs_of(engine, engine.submit_group([SHORT, gone, SHORT], "in turn", again=True))
    assert ended(engine, never).status == "failed"
    assert record_of(engine, done).status == "finished"
    assert "gone" in record_of(engine, failed).message
    is_recorded_whole(engine, done)


def test_a_killed_worker_costs_a_group_no_more_than_time(engine: Engine) -> None:
    """The run that had ended is not recorded again, though its job starts again."""
    scenarios, worker = [SHORT, SHORT.changed(max_iterations=1500)], worker_of(engine)
    done, cut_off = runs_of(engine, engine.submit_group(scenarios, "in turn", again=True))
    running(engine, cut_off)
    kill(worker)
    record = ended(engine, cut_off)
    assert (record.status, record.attempt) == ("finished", 2)
    assert "started again" in record.message
    assert engine.store.curve(cut_off)[-1].step == 1500
    record = record_of(engine, done)
    assert (record.status, record.attempt, record.message) == ("finished", 1, "")
    is_recorded_whole(engine, done)


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_a_refusal_on_the_worker_is_the_cause(engine: Engine, tmp_path: Path) -> None:
    record = ended(engine, engine.submit(Scenario(dataset="folder", images=str(tmp_path / "gone"))))
    assert record.status == "failed"
    assert "gone" in record.message
    assert "Traceback" not in record.message
    assert "unexpected" not in record.message


def test_an_unexpected_error_is_named_and_logged_in_full(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    record = ended(engine, engine.study(Broken(SHORT)))
    assert record.status == "failed"
    assert "unexpected ZeroDivisionError (nobody thought of this)" in record.message
    assert "\n" not in record.message
    assert "Traceback" in caplog.text
    assert 'raise ZeroDivisionError("nobody' in caplog.text


def test_a_killed_worker_costs_a_run_no_more_than_time(engine: Engine) -> None:
    run_id, waiting = engine.submit(LONG, again=True), engine.submit(SHORT, again=True)
    running(engine, run_id)
    before = engine.store.events(run_id)
    kill(worker_of(engine))

    record = eventually(lambda: (r := record_of(engine, run_id)).message and r)
    assert record.under_way
    assert "started again from its beginning" in record.message
    assert "killed" in record.message
    running(engine, run_id, attempt=2)
    record = record_of(engine, run_id)
    assert (record.status, record.attempt) == ("running", 2)
    assert [type(event) for event in engine.store.events(run_id)[: len(before)]] == [type(event) for event in before]
    assert engine.store.position(waiting) == 1

    # Killed once more, this time as the nanny would: it says so first.
    with own_client(engine) as client:
        (address,) = client.nthreads()
        client.log_event("worker-restart-memory", {"worker": address})
    kill(worker_of(engine))
    kept = record_of(engine, run_id).events
    record = ended(engine, run_id)
    assert (record.status, record.attempt) == ("failed", 2)
    assert "more memory than it may have" in record.message
    assert len(engine.store.events(run_id)) >= kept > len(before)

    # The run that only waited has nothing to do with it.
    record = ended(engine, waiting)
    assert (record.status, record.attempt, record.message) == ("finished", 1, "")


def test_a_run_that_survives_a_killed_worker_finishes(engine: Engine) -> None:
    scenario, worker = SHORT.changed(max_iterations=1500), worker_of(engine)
    run_id = engine.submit(scenario, again=True)
    eventually(lambda: engine.store.curve(run_id))
    kill(worker)
    record = ended(engine, run_id)
    assert (record.status, record.attempt) == ("finished", 2)
    assert "started again" in record.message
    assert engine.store.curve(run_id)[-1].step == 1500


def test_a_killed_worker_is_missed_where_no_news_of_it_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subscribe = Client.subscribe_topic

    def deaf(client: Client, topic: str, handler: Any) -> None:
        subscribe(client, topic, handler if topic != "all" else lambda event: None)

    monkeypatch.setattr(Client, "subscribe_topic", deaf)
    monkeypatch.setattr(dispatcher, "COUNT_SECONDS", 0.5)
    engine = Engine(Store(f"sqlite:///{tmp_path}/runs.sqlite"))
    try:
        run_id = engine.submit(LONG, again=True)
        running(engine, run_id)
        kill(worker_of(engine))
        running(engine, run_id, attempt=2)
        assert "killed" in record_of(engine, run_id).message
        engine.stop(run_id)
    finally:
        engine.close()


def test_a_killed_worker_costs_a_study_no_more_than_time(engine: Engine) -> None:
    run_id = engine.study(Study(scenario=SPREAD.changed(seed=3), repeats=10**6))
    eventually(lambda: engine.store.events(run_id, Scored))
    kill(worker_of(engine))
    eventually(lambda: record_of(engine, run_id).attempt == 2)
    assert "started again" in record_of(engine, run_id).message
    group = runs_of(engine, engine.submit_group([SHORT, SHORT], "in turn", again=True))
    engine.stop(run_id)
    assert ended(engine, run_id).status == "stopped"
    assert [ended(engine, member).status for member in group] == ["finished"] * 2


def test_a_run_can_be_stopped_while_its_worker_is_down(engine: Engine) -> None:
    run_id = engine.submit(LONG, again=True)
    running(engine, run_id)
    kill(worker_of(engine))
    eventually(lambda: record_of(engine, run_id).message)
    engine.stop(run_id)
    assert ended(engine, run_id).status == "stopped"
    assert ended(engine, engine.submit(SHORT, again=True)).status == "finished"


APP = """
import sys, time
from deepleak_core.runs.engine import Engine
from deepleak_core.scenario import Scenario
from deepleak_core.runs.store import Store

if __name__ == "__main__":
    engine = Engine(Store(sys.argv[1]))
    runs = [engine.submit(Scenario.from_json(text), again=True) for text in sys.argv[2:]]
    while engine.store.run(runs[1]).under_way and len(engine.store.curve(runs[1])) < 2:
        time.sleep(0.05)
    print(*runs, flush=True)
    time.sleep(1000)
"""


def test_an_app_that_dies_or_closes_leaves_its_runs_in_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.sqlite"
    script = tmp_path / "app.py"
    script.write_text(APP)
    command = [sys.executable, str(script), url, SHORT.to_json(), LONG.to_json(), SHORT.to_json()]
    app = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
    assert app.stdout is not None
    done, cut_off, waiting = app.stdout.readline().split()
    children = psutil.Process(app.pid).children(recursive=True)
    assert children
    app.kill()
    app.wait()

    engine = Engine(Store(url))
    try:
        assert record_of(engine, done).status == "finished"
        is_recorded_whole(engine, done)
        for run_id in (cut_off, waiting):
            record = record_of(engine, run_id)
            assert record.status == "interrupted"
            assert "run it again" in record.message
        assert len(engine.store.curve(cut_off)) >= 2
        eventually(lambda: not any(child.is_running() for child in children))
        begun, waiting = engine.submit(LONG, again=True), engine.submit(LONG, again=True)
        running(engine, begun)
    finally:
        engine.close()
    for run_id in (begun, waiting):
        record = record_of(engine, run_id)
        assert record.status == "interrupted"
        assert "run it again" in record.message


# -------------------------------------------------------------------------------------------- workers and threads


def test_workers_have_cores_less_one_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("DEEPLEAK_THREADS", raising=False)
    for cores, threads in ((1, "1"), (2, "1"), (8, "7")):
        monkeypatch.setattr("dask.system.CPU_COUNT", cores)
        assert workers.local_environments()["cpu"]["OMP_NUM_THREADS"] == threads
    monkeypatch.setenv("DEEPLEAK_THREADS", "3")
    assert set(workers.local_environments()["cpu"].values()) == {"3"}


def test_there_is_one_worker_for_each_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices = [environment["CUDA_VISIBLE_DEVICES"] for environment in workers.local_environments().values()]
    assert devices == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    devices = [environment["CUDA_VISIBLE_DEVICES"] for environment in workers.local_environments().values()]
    assert devices == ["5", "7"]


@pytest.mark.parametrize("given", ["0", "-1", "many"])
def test_threads_that_are_no_number(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLEAK_THREADS", given)
    with pytest.raises(DeepLeakError, match=f"DEEPLEAK_THREADS was '{given}'; accepted is a number from 1 up"):
        workers.local_environments()
