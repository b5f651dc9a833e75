"""The queue: visitors take turns, the urgent go first, and nobody takes the share of others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import pytest

from deepleak_core.errors import RunRejected
from deepleak_core.runs import queue as queues
from deepleak_core.runs.jobs import Job
from deepleak_core.runs.queue import Queue, require_room, require_share
from deepleak_core.runs.tasks import Attack
from deepleak_core.scenario import Scenario

numbers = count()


@dataclass(frozen=True)
class Slow(Attack):
    """An attack that is as little urgent as a study."""

    urgency: int = 1


def job(visitor: str, kind: type[Attack] = Attack) -> Job:
    return Job({f"{visitor}{next(numbers)}": kind(Scenario())}, "in turn", visitor)


def queue(*jobs: Job) -> Queue:
    waiting = Queue()
    for each in jobs:
        waiting.add(each)
    return waiting


def test_visitors_take_turns_and_each_ones_own_keep_their_order() -> None:
    many, few = [job("many") for _ in range(5)], [job("few") for _ in range(2)]
    waiting = queue(*many, *few)
    assert waiting.in_line() == [many[0], few[0], many[1], few[1], *many[2:]]
    waiting.begin(many[0])
    assert waiting.in_line()[0] is few[0], "who has just had a turn waits for the others"
    late = job("late")
    waiting.add(late)
    assert waiting.in_line()[:2] == [few[0], late]


def test_the_turn_of_who_has_not_been_here_for_long_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "TURNS", 2)
    waiting, jobs = Queue(), {name: job(name) for name in ("old", "newer", "newest")}
    for each in jobs.values():
        waiting.add(each)
        waiting.begin(each)
    again = [job("newest"), job("newer"), job("old")]
    for each in again:
        waiting.add(each)
    assert waiting.in_line() == again[::-1]


def test_the_urgent_go_first_whoever_asks() -> None:
    study, attack = job("a", Slow), job("a")
    assert queue(study, attack).in_line() == [attack, study]


def test_a_visitor_has_one_attack_under_way_and_any_number_of_studies() -> None:
    going, mine, yours, study = job("me"), job("me"), job("you"), job("me", Slow)
    waiting = queue(mine, yours, study)
    assert waiting.may_begin([going]) == [yours, study]
    going.over = True
    assert waiting.may_begin([going]) == [mine, yours, study]
    assert len(queue(job(""), job("")).may_begin([])) == 2, "without a visitor, as from a script, none is held back"


def test_what_is_unwanted_has_no_place_but_stays_until_it_leaves() -> None:
    first, second = job("a"), job("b")
    waiting = queue(first, second)
    first.unwanted = True
    assert waiting.in_line() == [second]
    (run_id,) = first.tasks
    assert waiting.of(run_id) is first
    for _ in range(2):
        waiting.leave(first)
    assert (list(waiting), waiting.of(run_id)) == ([second], None)


def test_shares_and_room_are_refused_in_sentences() -> None:
    jobs = [job("me") for _ in range(3)]
    require_share("runs", "you", jobs, 3)
    require_share("runs", "", [job("") for _ in range(9)], 3)
    with pytest.raises(RunRejected, match=r"You have 3 runs .* no more than 3 may be; stop one"):
        require_share("runs", "me", jobs, 3)
    jobs[0].unwanted = True
    require_share("runs", "me", jobs, 3)
    require_room("runs", 15, 16)
    with pytest.raises(RunRejected, match="16 runs wait already"):
        require_room("runs", 16, 16)
