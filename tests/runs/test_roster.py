"""Which workers may get jobs, and what is said while none may."""

from __future__ import annotations

import pytest

from deepleak_core.runs import roster
from deepleak_core.runs.roster import Roster
from deepleak_core.version import VERSION

A, B = "tcp://a:1", "tcp://b:1"


def test_workers_of_the_same_machine_need_not_be_asked() -> None:
    workers = Roster("")
    assert workers.see({A}) == [A]
    assert workers.usable == [A]


def test_a_worker_may_get_jobs_once_it_has_answered() -> None:
    workers = Roster("tcp://lab:1")
    workers.see({A, B})
    assert workers.usable == []
    workers.meet(A, VERSION)
    assert workers.usable == [A]
    assert workers.see({B}) == []
    assert workers.usable == []


@pytest.mark.parametrize("answer", ["0.0.1", ModuleNotFoundError("deepleak_core"), AttributeError(), None])
def test_other_answers_are_told_while_runs_wait(answer: object) -> None:
    workers = Roster("tcp://lab:1")
    workers.see({A})
    assert not workers.meet(A, answer)
    workers.wait(False)
    assert workers.hindrance == ""
    workers.wait(True)
    assert A in workers.hindrance
    assert VERSION in workers.hindrance


def test_a_worker_that_could_not_be_asked_is_asked_again() -> None:
    workers = Roster("tcp://lab:1")
    workers.see({A})
    assert not workers.meet(A, OSError("gone"))
    assert workers.see({A}) == [A]


def test_waiting_is_counted_from_the_first_run_that_waits_and_ends_with_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(roster.time, "monotonic", lambda: now[0])
    workers = Roster("tcp://lab:1")
    now[0] = 1e6
    workers.wait(True)
    assert (workers.hindrance, workers.hopeless) == ("", False)
    now[0] += roster.NO_WORKER_SECONDS + 1
    workers.wait(True)
    assert "tcp://lab:1" in workers.hindrance
    now[0] += roster.GIVEN_UP_SECONDS
    assert workers.hopeless
    workers.see({A})
    workers.meet(A, VERSION)
    workers.wait(True)
    assert (workers.hindrance, workers.hopeless) == ("", False)
