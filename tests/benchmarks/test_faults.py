"""Faults in their short form: what is finished stays, nothing is under way for ever, and the page says why."""

from __future__ import annotations

import pytest

from benchmarks import faults, hostile


@pytest.mark.slow
def test_a_killed_worker_leaves_every_run_in_order_and_is_told_on_the_page() -> None:
    ((name, row),) = faults.rows(["worker"], short=True)
    assert name == "worker"
    assert row["intact"]
    assert row["complete"]
    assert (row["under_way"], row["ended"], row["afterwards"]) == (0, "finished", "finished")
    assert any("worker process was killed" in sentence for sentence in row["sentences"])
    assert not row["tracebacks"]


def test_hostile_files_are_read_or_refused_in_a_sentence() -> None:
    found = hostile.files(short=True)
    assert found.errors == ()
    assert found.tried == found.refused + found.accepted
    assert found.refused > found.tried / 2


def test_links_are_generated_the_same_each_time() -> None:
    links = hostile.generated_links(20)
    assert links == hostile.generated_links(20)
    assert len(set(links)) > 10
