"""A disk that is full, for real: a file system of 8 MB in memory, where this process may mount one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deepleak_core.errors import StoreUnavailable
from deepleak_core.runs import writer as module
from deepleak_core.runs.keeping import forget_marked
from deepleak_core.runs.schema import FORGET
from deepleak_core.runs.store import RunRecord, Store, this_process
from deepleak_core.runs.writer import Writer
from deepleak_core.scenario import Scenario
from tests.runs.disk import fill, mounted
from tests.runs.engines import PATIENCE, eventually
from tests.runs.test_keeping import snapshot

HERE = this_process()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder) as possible:
        if not possible:
            pytest.skip("no file system may be mounted here")
        yield folder


def ended(store: Store, run_id: str) -> RunRecord | None:
    """A run that is over; None also where a full disk lets no new connection be opened."""
    with suppress(StoreUnavailable):
        record = store.run(run_id)
        return None if record is None or record.under_way else record
    return None


def create_many(store: Store) -> None:
    """Take the space that is left within the file of the database, too."""
    for _ in range(2000):
        store.create(Scenario(), HERE)


def test_a_full_disk_loses_no_event_and_is_told_in_a_sentence(disk: Path) -> None:
    store = Store(f"sqlite:///{disk}/runs.sqlite")
    writer = Writer(store, on_given_up=print)
    run_id = store.create(Scenario(), HERE)
    writer.start(run_id)
    writer.append(run_id, snapshot(0))
    eventually(lambda: store.curve(run_id))
    filler = fill(disk)
    for step in range(1, 30):
        writer.append(run_id, snapshot(step))
    stored = writer.finish(run_id, "finished")
    eventually(lambda: writer.trouble)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        create_many(store)
    filler.unlink()
    assert stored.wait(PATIENCE)
    assert [moment.step for moment in store.curve(run_id)] == list(range(30))
    record = store.run(run_id)
    assert record is not None
    assert record.status == "finished"
    writer.close(1)


def test_a_run_on_a_disk_that_stays_full_ends_with_the_cause(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)
    store = Store(f"sqlite:///{disk}/runs.sqlite")
    old, run_id = (store.create(Scenario(), HERE) for _ in range(2))
    store.append(old, [snapshot(step) for step in range(4)])
    store.finish(old, "finished")
    writer = Writer(store, on_given_up=print)
    filler = fill(disk)
    for step in range(60):
        writer.append(run_id, snapshot(step))
    assert "could not be stored" in eventually(lambda: ended(store, run_id)).message
    filler.unlink()
    writer.close(10)
    again = Store(f"sqlite:///{disk}/runs.sqlite")
    assert again.run(run_id).status == "failed"
    assert len(again.curve(old)) == 4, "what was finished is intact"
    again.ask(old, FORGET)
    assert forget_marked(again) == 1
