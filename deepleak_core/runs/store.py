"""Store runs and their events in an SQL database.

The engine writes, and any number of viewers read (see `reading`); tables are in `schema`, the connection in `database`.

A study (see `studies.label_accuracy`) is a run with other events. The table `studies` maps the hash of its settings to
its run, so equal questions share one answer. Lists of runs leave studies out. Attacks have a fingerprint for the same
purpose (see `fingerprint`), and the identity of the visitor who started them.

Several processes may share a database. What shall be done about a run of another one is written into its row, for its
owner to see (see `ask`).

>>> import tempfile
>>> from deepleak_core.events import Downloading
>>> store = Store(f"sqlite:///{tempfile.mkdtemp()}/runs.sqlite")
>>> run_id = store.create(Scenario(), owner=this_process())
>>> store.append(run_id, [Downloading(dataset="cifar10", bytes_done=1, bytes_total=4)])
>>> store.run(run_id).status, store.run(run_id).events, store.latest(run_id, Downloading).bytes_total
('queued', 1, 4)
"""

from __future__ import annotations

import itertools
import secrets
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgpack
import psutil
from sqlalchemy import case, delete, func, insert, select, update

from deepleak_core.events import PICTURES, Event, Snapshot, to_message
from deepleak_core.runs.database import storable
from deepleak_core.runs.fingerprint import fingerprint
from deepleak_core.runs.reading import SHOWN, Reader
from deepleak_core.runs.record import UNDER_WAY, Moment, RunRecord, Status, header_of
from deepleak_core.runs.schema import EVENTS, FORGET, MEMBERS, PROCESSES, RUNS, STOP, STUDIES
from deepleak_core.scenario import Scenario

__all__ = ["INTERRUPTED", "Moment", "Request", "RunRecord", "Status", "Store", "this_process"]

INTERRUPTED = "The app was closed or restarted while this run was under way; run it again."


@dataclass(frozen=True)
class Request:
    """What was asked to be done about a run: `what` is `schema.STOP` or `schema.FORGET`."""

    run_id: str
    what: str
    owner: str
    under_way: bool


class Store(Reader):
    """Runs in a database, safe to share among threads and processes; see `Database` for the arguments."""

    def create(
        self,
        scenario: Scenario,
        owner: str,
        study: str | None = None,
        *,
        visitor: str = "",
        device: str = "cpu",
        executed: Scenario | None = None,
    ) -> str:
        """A new queued run; its id is short, fit for a URL, and not to be guessed.

        Args:
            scenario: What is run.
            owner: The process that runs it, see `this_process`.
            study: The key of its study, None for an attack.
            visitor: The identity of who started it, no secret: for the app, the hash of one.
            device: The kind of device that `device="auto"` leads to, such as cpu or cuda.
            executed: The scenario with the limits of the server, where it has any: the question that is answered.
        """
        run_id = _new_id()
        row = {
            "id": run_id,
            "scenario": scenario.to_json(),
            "status": "queued",
            "created": time.time(),
            "owner": owner,
            "visitor": visitor,
            "fingerprint": fingerprint(executed or scenario, device) if study is None else "",
        }
        with self.connected() as connection:
            connection.execute(insert(RUNS).values(row))
            if study is not None:
                connection.execute(insert(STUDIES).values(run=run_id, key=study))
        return run_id

    def group(self, run_ids: Sequence[str]) -> str:
        """Keep runs together under one id, which `members` takes."""
        group_id = _new_id()
        rows = [{"group": group_id, "place": place, "run": run_id} for place, run_id in enumerate(run_ids)]
        with self.connected() as connection:
            connection.execute(insert(MEMBERS), rows)
        return group_id

    def start(self, run_id: str) -> int:
        """Mark a run as running and count the attempt: 1, or 2 when it starts again; 0 if it has ended already."""
        values = {"status": "running", "attempt": RUNS.c.attempt + 1, "started": time.time()}
        query = update(RUNS).where(RUNS.c.id == run_id, RUNS.c.status.in_(UNDER_WAY)).values(values)
        with self.connected() as connection:
            return connection.execute(query.returning(RUNS.c.attempt)).scalar_one_or_none() or 0

    def note(self, run_id: str, message: str) -> None:
        """Set the message of a run: one sentence for its viewers."""
        self._change(run_id, message=storable(message))

    def append(self, run_id: str, events: Iterable[Event | Mapping[str, Any]]) -> None:
        """Keep events, or messages of `events.to_message`, behind those already kept: one transaction.

        Nothing is kept of a run that has been deleted.
        """
        rows = [_packed(event) for event in events]
        snapshots = sum(row["kind"] == Snapshot.__name__ for row in rows)
        size = sum(len(row["header"]) + len(row["pictures"] or b"") for row in rows)
        counts = update(RUNS).where(RUNS.c.id == run_id).values(
            events=RUNS.c.events + len(rows), snapshots=RUNS.c.snapshots + snapshots, bytes=RUNS.c.bytes + size
        )  # fmt: skip
        with self.connected() as connection:
            # Counting first takes the write lock, so the places behind the count are this writer's own.
            counted = connection.execute(counts.returning(RUNS.c.events, RUNS.c.snapshots, RUNS.c.attempt)).first()
            if counted is None or not rows:
                return
            places = itertools.count(counted.events - len(rows))
            numbers = itertools.count(counted.snapshots - snapshots)
            for row in rows:
                number = next(numbers) if row["kind"] == Snapshot.__name__ else None
                row |= {"run": run_id, "seq": next(places), "attempt": counted.attempt, "snapshot": number}
            connection.execute(insert(EVENTS), rows)

    def finish(self, run_id: str, status: Status, message: str = "") -> bool:
        """End a run that is under way; the first end counts, later ones change nothing and give False."""
        values: dict[str, Any] = {"status": status, "ended": time.time()}
        values["asked"] = case((RUNS.c.asked == STOP, ""), else_=RUNS.c.asked)
        if message:
            values["message"] = storable(message)
        query = update(RUNS).where(RUNS.c.id == run_id, RUNS.c.status.in_(UNDER_WAY)).values(values)
        with self.connected() as connection:
            changed = connection.execute(query).rowcount == 1
        self._announced.pop(run_id, None)
        return changed

    # ----------------------------------------------------------------------------------------- other processes

    def ask(self, run_id: str, what: str) -> None:
        """Ask the process that owns a run to stop or to forget it, `schema.STOP` or `schema.FORGET`."""
        with self.connected() as connection:
            query = update(RUNS).where(RUNS.c.id == run_id, RUNS.c.asked != FORGET)
            connection.execute(
                (query if what == FORGET else query.where(RUNS.c.status.in_(UNDER_WAY))).values(asked=what)
            )

    def requests(self) -> list[Request]:
        """What was asked of any process and is not done yet."""
        query = select(RUNS.c.id, RUNS.c.asked, RUNS.c.owner, RUNS.c.status).where(RUNS.c.asked.in_((STOP, FORGET)))
        return [Request(row.id, row.asked, row.owner, row.status in UNDER_WAY) for row in self.rows(query)]

    def beat(self, owner: str) -> None:
        """Tell other machines that a process lives; without an effect on SQLite, which one machine uses at a time."""
        if self.sqlite:
            return
        values = {"beat": time.time()}
        with self.connected() as connection:
            if not connection.execute(update(PROCESSES).where(PROCESSES.c.owner == owner).values(values)).rowcount:
                connection.execute(insert(PROCESSES).values(owner=owner, **values))

    def beats(self) -> dict[str, float]:
        """When each process told for the last time that it lives, by its own clock."""
        return {row.owner: row.beat for row in self.rows(select(PROCESSES))}

    def interrupt_orphans(self, silent: Collection[str] = ()) -> int:
        """Mark runs under way whose process is gone as interrupted; how many those were.

        `silent` are processes of which nothing was heard for long, see `beats`.
        """
        query = select(RUNS.c.id, RUNS.c.owner).where(RUNS.c.status.in_(UNDER_WAY))
        orphans = [row.id for row in self.rows(query) if row.owner in silent or not self._lives(row.owner)]
        if silent:
            with self.connected() as connection:
                connection.execute(delete(PROCESSES).where(PROCESSES.c.owner.in_(silent)))
        return sum(self.finish(run_id, "interrupted", INTERRUPTED) for run_id in orphans)

    def _lives(self, owner: str) -> bool:
        """Whether the process that owns a run is still there, as far as this machine can tell.

        SQLite's WAL works on one machine only, so another host name belongs to a container that is gone.
        """
        host, pid, born = owner.rsplit(":", 2)
        if host != socket.gethostname():
            return not self.sqlite
        try:
            return f"{psutil.Process(int(pid)).create_time():.2f}" == born
        except psutil.Error:
            return False

    # ------------------------------------------------------------------------------------------------- keeping

    def keep(self, run_id: str, kept: bool) -> None:
        """Except a run from being forgotten by age or for space, or no longer."""
        self._change(run_id, kept=int(kept))

    def size(self, *, kept: bool | None = None) -> int:
        """Bytes of all events, or of those of runs that are kept, or that are not; without runs to be forgotten."""
        query = select(func.coalesce(func.sum(RUNS.c.bytes), 0)).where(SHOWN)
        return int(self.rows(query if kept is None else query.where(RUNS.c.kept == int(kept)))[0][0])

    def expendable(self, most: int) -> list[tuple[str, float, int]]:
        """The oldest runs that have ended and need not be kept: the id, when it ended, its bytes."""
        query = select(RUNS.c.id, RUNS.c.ended, RUNS.c.bytes).where(RUNS.c.ended.is_not(None), RUNS.c.kept == 0, SHOWN)
        return [(row.id, row.ended, row.bytes) for row in self.rows(query.order_by(RUNS.c.ended).limit(most))]

    def delete_events(self, run_id: str, most: int) -> bool:
        """Delete the last events of a run in one short transaction; whether there may be more."""
        last = select(EVENTS.c.seq).where(EVENTS.c.run == run_id).order_by(EVENTS.c.seq.desc()).limit(most)
        with self.connected() as connection:
            places = connection.execute(last).scalars().all()
            if places:
                connection.execute(delete(EVENTS).where(EVENTS.c.run == run_id, EVENTS.c.seq >= min(places)))
        return len(places) == most

    def delete_run(self, run_id: str) -> None:
        """Delete what is left of a run, and the groups that it belonged to."""
        groups = select(MEMBERS.c.group).where(MEMBERS.c.run == run_id)
        with self.connected() as connection:
            connection.execute(delete(MEMBERS).where(MEMBERS.c.group.in_(groups)))
            for table, column in ((EVENTS, EVENTS.c.run), (STUDIES, STUDIES.c.run), (RUNS, RUNS.c.id)):
                connection.execute(delete(table).where(column == run_id))

    def _change(self, run_id: str, **values: Any) -> None:
        with self.connected() as connection:
            connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(values))


def _packed(event: Event | Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an event that do not depend on its place."""
    message = dict(event) if isinstance(event, Mapping) else to_message(event)
    kind = message.pop("kind")
    pictures = message.pop(PICTURES[kind]) if kind in PICTURES else None
    packed = None if pictures is None else msgpack.packb(pictures)
    return {"kind": kind, "header": header_of(message), "pictures": packed}


def _new_id() -> str:
    return secrets.token_urlsafe(9)


@cache
def this_process() -> str:
    """Who owns a run: host, process id and the time the process was born, since ids are used again."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"
