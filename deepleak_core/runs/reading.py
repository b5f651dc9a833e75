"""Read runs and their events from the store.

Any number of viewers read, during a run and after it: `run` reads one row by its key, whose `events` grows with every
event, so a viewer fetches only what is new. Reads are typed by the class of the event. A run that shall be forgotten is
not found any more, even while it is still there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar, cast, overload

import msgpack
from sqlalchemy import Row, Select, case, func, select

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import TROUBLE, Event, Finished
from deepleak_core.runs.database import Database
from deepleak_core.runs.fingerprint import fingerprint
from deepleak_core.runs.record import UNDER_WAY, Moment, RunRecord, Status, event_of, moment_of, run_of
from deepleak_core.runs.schema import EVENTS, FORGET, MEMBERS, RUNS, STUDIES, attacks
from deepleak_core.scenario import Scenario

Kind = TypeVar("Kind", bound=Event)

ID = re.compile(r"[A-Za-z0-9_-]{1,16}")  # of runs and groups; others come from links and are asked of no database
SHOWN = RUNS.c.asked != FORGET


class Reader(Database):
    """What can be read of runs, see `Database` for the arguments."""

    def __init__(self, url: str | None = None):
        super().__init__(url)
        self._announced: dict[str, tuple[Status, str]] = {}

    def announce(self, run_id: str, status: Status, message: str = "") -> None:
        """Tell readers of this store the end of a run that could not be stored yet."""
        self._announced.setdefault(run_id, (status, message))

    # ---------------------------------------------------------------------------------------------------- runs

    def run(self, run_id: str) -> RunRecord | None:
        """What is known of a run, without its events; None where there is no such run."""
        rows = self._rows_of(run_id, select(RUNS).where(RUNS.c.id == run_id, SHOWN))
        return self._record(rows[0]) if rows else None

    def members(self, group_id: str) -> list[RunRecord]:
        """The runs of a group in their order; none where there is no such group, or one of its runs is forgotten."""
        query = select(RUNS).select_from(MEMBERS).join(RUNS, (MEMBERS.c.run == RUNS.c.id) & SHOWN, isouter=True)
        rows = self._rows_of(group_id, query.where(MEMBERS.c.group == group_id).order_by(MEMBERS.c.place))
        return [] if any(row.id is None for row in rows) else [self._record(row) for row in rows]

    def finished_like(self, scenario: Scenario, *, device: str = "cpu") -> RunRecord | None:
        """The latest run that answers this scenario already, None without one.

        It is of the same version and kind of device (see `fingerprint`), was not stopped, and its attack did not fail.
        """
        query = select(RUNS).where(
            RUNS.c.fingerprint == fingerprint(scenario, device), RUNS.c.status == "finished", SHOWN
        )
        for row in self.rows(query.order_by(RUNS.c.created.desc())):
            end = self.latest(row.id, Finished)
            if end is not None and end.reason not in TROUBLE:
                return self._record(row)
        return None

    def under_way_like(self, scenario: Scenario, owner: str, *, device: str = "cpu") -> list[RunRecord]:
        """The runs under way of an owner that will answer this scenario, the first to be started first."""
        same = (RUNS.c.fingerprint == fingerprint(scenario, device), RUNS.c.owner == owner, SHOWN)
        query = select(RUNS).where(*same, RUNS.c.status.in_(UNDER_WAY)).order_by(RUNS.c.created)
        return [self._record(row) for row in self.rows(query)]

    def lost(self, owner: str, before: float, known: Collection[str]) -> list[str]:
        """Runs that an owner has had under way since before a time, but does not know of."""
        query = select(RUNS.c.id).where(
            RUNS.c.status.in_(UNDER_WAY), RUNS.c.owner == owner, RUNS.c.created < before
        )  # fmt: skip
        return [row.id for row in self.rows(query) if row.id not in known]

    def runs(self, limit: int = 50, *, visitor: str | None = None) -> list[RunRecord]:
        """The latest attacks, of all visitors or of this identity; those under way first, then the newest."""
        query = select(RUNS).where(attacks(), SHOWN)
        if visitor is not None:
            query = query.where(RUNS.c.visitor == visitor)
        query = query.order_by(case((RUNS.c.status.in_(UNDER_WAY), 0), else_=1), RUNS.c.created.desc())
        records = []
        for row in self.rows(query.limit(limit)):
            with suppress(UnsupportedScenario):  # kept by a version with other settings: nothing to list
                records.append(self._record(row))
        return records

    def studies(self, keys: Sequence[str]) -> dict[str, RunRecord]:
        """The latest run of each study that has one, by the study's key."""
        query = select(RUNS, STUDIES.c.key).join(STUDIES, STUDIES.c.run == RUNS.c.id)
        rows = self.rows(query.where(STUDIES.c.key.in_(keys), SHOWN).order_by(RUNS.c.created))
        return {row.key: self._record(row) for row in rows}

    def position(self, run_id: str) -> int | None:
        """A run's place among the attacks its owner has queued, 1 for the next; None unless it waits."""
        mine, ahead = RUNS.alias(), RUNS.alias()
        query = (
            select(func.count())
            .select_from(mine.join(ahead, (ahead.c.owner == mine.c.owner) & (ahead.c.created <= mine.c.created)))
            .where(mine.c.id == run_id, mine.c.status == "queued", ahead.c.status == "queued", attacks(ahead))
        )
        rows = self._rows_of(run_id, query)
        return (rows[0][0] or None) if rows else None

    # -------------------------------------------------------------------------------------------------- events

    @overload
    def events(self, run_id: str) -> list[Event]: ...

    @overload
    def events(self, run_id: str, kind: type[Kind]) -> list[Kind]: ...

    def events(self, run_id: str, kind: type[Kind] | None = None) -> list[Event] | list[Kind]:
        """Every event of a run in order, or those of one class such as `LabelsInferred`."""
        query = select(EVENTS).where(EVENTS.c.run == run_id).order_by(EVENTS.c.seq)
        if kind is not None:
            query = query.where(EVENTS.c.kind == kind.__name__)
        return [event_of(row) for row in self._rows_of(run_id, query)]

    def latest(self, run_id: str, kind: type[Kind]) -> Kind | None:
        """The last event of a class, None where there is none yet."""
        query = select(EVENTS).where(EVENTS.c.run == run_id, EVENTS.c.kind == kind.__name__)
        rows = self._rows_of(run_id, query.order_by(EVENTS.c.seq.desc()).limit(1))
        return cast(Kind, event_of(rows[0])) if rows else None

    def newest(self, run_ids: Sequence[str], kind: type[Kind]) -> dict[str, Kind]:
        """The last event of a class for each of these runs that has one."""
        of_kind = select(EVENTS.c.run, func.max(EVENTS.c.seq).label("seq")).where(EVENTS.c.kind == kind.__name__)
        last = of_kind.where(EVENTS.c.run.in_(run_ids)).group_by(EVENTS.c.run).subquery()
        query = select(EVENTS).join(last, (last.c.run == EVENTS.c.run) & (last.c.seq == EVENTS.c.seq))
        return {row.run: cast(Kind, event_of(row)) for row in self.rows(query)}

    def curve(self, run_id: str, start: int = 0) -> list[Moment]:
        """The numbers of snapshots `start`, `start + 1`, ... in order; no picture is read."""
        query = select(EVENTS.c.snapshot, EVENTS.c.attempt, EVENTS.c.header)
        query = query.where(EVENTS.c.run == run_id, EVENTS.c.snapshot >= start).order_by(EVENTS.c.snapshot)
        return [moment_of(row) for row in self._rows_of(run_id, query)]

    def pictures(self, run_id: str, n: int = -1) -> tuple[Moment, tuple[bytes, ...]] | None:
        """The `n`-th snapshot, -1 for the last, and its images as PNG bytes in the attacker's order, or None."""
        count = select(RUNS.c.snapshots).where(RUNS.c.id == run_id).scalar_subquery()
        query = select(EVENTS).where(EVENTS.c.run == run_id, EVENTS.c.snapshot == (n if n >= 0 else count + n))
        rows = self._rows_of(run_id, query)
        return (moment_of(rows[0]), tuple(msgpack.unpackb(rows[0].pictures))) if rows else None

    def history(self, run_id: str) -> list[Event | Moment]:
        """Every event in order, snapshots without their pictures: what `export.summary` reads."""
        pictures = case((EVENTS.c.snapshot.is_(None), EVENTS.c.pictures)).label("pictures")
        query = select(EVENTS.c.kind, EVENTS.c.attempt, EVENTS.c.snapshot, EVENTS.c.header, pictures)
        rows = self._rows_of(run_id, query.where(EVENTS.c.run == run_id).order_by(EVENTS.c.seq))
        return [event_of(row) if row.snapshot is None else moment_of(row) for row in rows]

    def _record(self, row: Row[Any]) -> RunRecord:
        record = run_of(row)
        announced = self._announced.get(record.id)
        if announced is None or not record.under_way:
            return record
        status, message = announced
        return replace(record, status=status, message=message or record.message)

    def _rows_of(self, asked: str, query: Select[Any]) -> list[Row[Any]]:
        """What a query finds for the id of a run or group; nothing where that can be none."""
        return self.rows(query) if ID.fullmatch(asked) else []
