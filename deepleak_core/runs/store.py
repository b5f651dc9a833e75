"""Store runs and their events in an SQL database.

One row a run, one row an event; the numbers of an event are JSON text, its pictures a blob in a column of their own.
So curves are read without touching a picture, and pictures are handed on as the PNG bytes that they are.

The engine writes. Any number of viewers read, during a run and after it: `Store.run` reads one row by its key, whose
`events` grows with every event, so a viewer fetches only what is new. Reads are typed by the class of the event.

A study (see `studies.label_accuracy`) is a run with other events. The table `studies` maps the hash of its settings to
its run, so equal questions share one answer. Lists of runs leave studies out. Attacks have a fingerprint for the same
purpose (see `fingerprint`), and the token of the visitor who started them.

The table `meta` holds the version of the schema. A database of another version is not read: an SQLite file is renamed
and a new one begun, see `Store.notice`.

>>> import tempfile
>>> from deepleak_core.events import Downloading
>>> store = Store(f"sqlite:///{tempfile.mkdtemp()}/runs.sqlite")
>>> run_id = store.create(Scenario(), owner=this_process())
>>> store.append(run_id, [Downloading(dataset="cifar10", bytes_done=1, bytes_total=4)])
>>> store.run(run_id).status, store.run(run_id).events, store.latest(run_id, Downloading).bytes_total
('queued', 1, 4)
"""

from __future__ import annotations

import datetime
import itertools
import json
import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

import msgpack
import psutil
from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Double,
    Engine,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    case,
    create_engine,
    func,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, IntegrityError, OperationalError, ProgrammingError

from deepleak_core.errors import StoreUnavailable, UnsupportedScenario
from deepleak_core.events import (
    PICTURES,
    TROUBLE,
    Event,
    Finished,
    Score,
    Snapshot,
    from_message,
    score_of,
    to_message,
)
from deepleak_core.runs.fingerprint import fingerprint
from deepleak_core.scenario import Scenario
from deepleak_core.text import shorten

logger = logging.getLogger(__name__)

Status = Literal["queued", "running", "finished", "stopped", "failed", "interrupted"]
Kind = TypeVar("Kind", bound=Event)
UNDER_WAY: tuple[Status, ...] = ("queued", "running")

ID = re.compile(r"[A-Za-z0-9_-]{1,16}")  # of runs and groups; others come from links and are asked of no database

INTERRUPTED = "The app was closed or restarted while this run was under way; run it again."

SCHEMA = "3"  # version of the tables below and of the events in them; raised with every change that old readers miss

_tables = MetaData()
_meta = Table("meta", _tables, Column("name", String(16), primary_key=True), Column("value", Text, nullable=False))
_runs = Table(
    "runs",
    _tables,
    Column("id", String(16), primary_key=True),
    Column("scenario", Text, nullable=False),
    Column("status", String(12), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("message", Text, nullable=False, default=""),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("ended", Double),
    Column("owner", String(300), nullable=False),
    Column("events", Integer, nullable=False, default=0),
    Column("snapshots", Integer, nullable=False, default=0),
    Column("visitor", String(64), nullable=False, default=""),
    Column("fingerprint", String(64), nullable=False, default=""),
    Index("runs_by_fingerprint", "fingerprint", "created"),
    Index("runs_by_age", "created"),
    Index("runs_by_status", "status", "owner", "created"),
)
_studies = Table(
    "studies",
    _tables,
    Column("run", String(16), primary_key=True),
    Column("key", String(64), nullable=False),
    Index("studies_by_key", "key"),
)
_events = Table(
    "events",
    _tables,
    Column("run", String(16), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(20), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("snapshot", Integer),  # counts snapshots of a run from 0, null for every other kind
    Column("header", Text, nullable=False),
    Column("pictures", LargeBinary),
    Index("events_by_kind", "run", "kind", "seq"),
    Index("events_by_snapshot", "run", "snapshot"),
)
_members = Table(
    "members",
    _tables,
    Column("group", String(16), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("run", String(16), nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as the store knows it. Times are seconds since 1970, `started` is that of the last attempt.

    `attempt` is 0 in the queue, 1 at first, 2 when the run had to be started again. `message` is empty or one
    sentence: why it was started again, failed or was interrupted. `events` and `snapshots` count what is stored.
    `visitor` is the token of who started it, empty where that is unknown; `fingerprint` is empty for a study.
    """

    id: str
    scenario: Scenario
    status: Status
    attempt: int
    message: str
    created: float
    started: float | None
    ended: float | None
    owner: str
    events: int
    snapshots: int
    visitor: str = ""
    fingerprint: str = ""

    @property
    def under_way(self) -> bool:
        """Whether more is to come: queued or running."""
        return self.status in UNDER_WAY


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A stored snapshot without its images: the `n`-th of its run, counted from 0 over all attempts.

    The other fields are those of `events.Snapshot`.
    """

    n: int
    attempt: int
    step: int
    seconds: float
    loss: float
    residual: float
    labels: tuple[int, ...]
    progress: float | None
    score: Score | None = None


class Store:
    """Runs in a database, safe to share among threads and processes.

    Args:
        url: An SQLAlchemy address; by default `DEEPLEAK_DB`, or an SQLite file in the user's data folder.

    Attributes:
        notice: A sentence for the user where an SQLite file of another version was set aside, else empty.

    Raises:
        StoreUnavailable: The database cannot be opened, or is a server's and of another version.
    """

    def __init__(self, url: str | None = None):
        url = url or os.environ.get("DEEPLEAK_DB") or f"sqlite:///{_data_folder() / 'runs.sqlite'}"
        self.notice = ""
        self._announced: dict[str, tuple[Status, str]] = {}
        try:
            address = make_url(url)
            self._sqlite = address.get_backend_name() == "sqlite"
            if self._sqlite:
                if address.database in (None, "", ":memory:"):
                    raise ArgumentError("a database in memory is not shared between threads")
                Path(address.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = create_engine(address, pool_pre_ping=True)  # connections may be lost between uses
            if self._sqlite:
                listen(self._engine, "connect", _tune_sqlite)
            if _is_of_another_version(self._engine):
                self._set_aside(address)
            _create_tables(self._engine)
        except (ArgumentError, DatabaseError, ImportError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise StoreUnavailable(
                f"The run database could not be opened ({reason}); set DEEPLEAK_DB to an SQLAlchemy address "
                "such as sqlite:////home/me/runs.sqlite."
            ) from error

    def _set_aside(self, address: URL) -> None:
        """Rename the file of an SQLite database of another version, so that a new one takes its place."""
        if not self._sqlite:
            raise StoreUnavailable(
                f"The run database {address.render_as_string()} belongs to another version of DeepLeak; "
                "set DEEPLEAK_DB to an empty database, or use the version that made it."
            )
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self._engine.dispose()
        old = Path(str(address.database))
        new = _free_name(old)
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                Path(f"{old}{suffix}").rename(f"{new}{suffix}")
        self.notice = (
            f"The run database was made by another version of DeepLeak, which this one cannot read; it was renamed to "
            f"{new.name}, and a new one begun."
        )
        logger.warning("%s", self.notice)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection for one transaction. Raises `StoreUnavailable` where the database cannot answer."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            logger.warning("The run database did not answer.", exc_info=True)
            reason = str(error.orig).partition("\n")[0]
            raise StoreUnavailable(
                f"The run database did not answer ({shorten(reason)}); try again in a moment. If this lasts, it may be "
                "locked, full or gone: see the log of the app."
            ) from error

    # ------------------------------------------------------------------------------------------- writing

    def create(
        self, scenario: Scenario, owner: str, study: str | None = None, *, visitor: str = "", device: str = "cpu"
    ) -> str:
        """A new queued run; its id is short, fit for a URL, and not to be guessed.

        Args:
            scenario: What is run.
            owner: The process that runs it, see `this_process`.
            study: The key of its study, None for an attack.
            visitor: The token of who started it.
            device: The kind of device that `device="auto"` leads to, such as cpu or cuda.
        """
        run_id = _new_id()
        row = {
            "id": run_id,
            "scenario": scenario.to_json(),
            "status": "queued",
            "created": time.time(),
            "owner": owner,
            "visitor": visitor,
            "fingerprint": fingerprint(scenario, device) if study is None else "",
        }
        with self._connected() as connection:
            connection.execute(insert(_runs).values(row))
            if study is not None:
                connection.execute(insert(_studies).values(run=run_id, key=study))
        return run_id

    def group(self, run_ids: Sequence[str]) -> str:
        """Keep runs together under one id, which `members` takes."""
        group_id = _new_id()
        rows = [{"group": group_id, "place": place, "run": run_id} for place, run_id in enumerate(run_ids)]
        with self._connected() as connection:
            connection.execute(insert(_members), rows)
        return group_id

    def start(self, run_id: str) -> int:
        """Mark a run as running and count the attempt: 1, or 2 when it starts again; 0 if it has ended already."""
        values = {"status": "running", "attempt": _runs.c.attempt + 1, "started": time.time()}
        query = update(_runs).where(_runs.c.id == run_id, _runs.c.status.in_(UNDER_WAY)).values(values)
        with self._connected() as connection:
            return connection.execute(query.returning(_runs.c.attempt)).scalar_one_or_none() or 0

    def note(self, run_id: str, message: str) -> None:
        """Set the message of a run: one sentence for its viewers."""
        with self._connected() as connection:
            connection.execute(update(_runs).where(_runs.c.id == run_id).values(message=message))

    def append(self, run_id: str, events: Iterable[Event | Mapping[str, Any]]) -> None:
        """Keep events, or messages of `events.to_message`, behind those already kept: one transaction."""
        messages = [dict(e) if isinstance(e, Mapping) else to_message(e) for e in events]
        snapshots = sum(message["kind"] == Snapshot.__name__ for message in messages)
        counts = update(_runs).where(_runs.c.id == run_id).values(
            events=_runs.c.events + len(messages), snapshots=_runs.c.snapshots + snapshots
        )  # fmt: skip
        with self._connected() as connection:
            # Counting first takes the write lock, so the places behind the count are this writer's own.
            counted = connection.execute(counts.returning(_runs.c.events, _runs.c.snapshots, _runs.c.attempt)).one()
            places = itertools.count(counted.events - len(messages))
            numbers = itertools.count(counted.snapshots - snapshots)
            rows = []
            for message in messages:
                kind = message.pop("kind")
                pictures = message.pop(PICTURES[kind]) if kind in PICTURES else None
                rows.append(
                    {
                        "run": run_id,
                        "seq": next(places),
                        "kind": kind,
                        "attempt": counted.attempt,
                        "snapshot": next(numbers) if kind == Snapshot.__name__ else None,
                        "header": json.dumps(message),
                        "pictures": None if pictures is None else msgpack.packb(pictures),
                    }
                )
            if rows:
                connection.execute(insert(_events), rows)

    def finish(self, run_id: str, status: Status, message: str = "") -> bool:
        """End a run that is under way; the first end counts, later ones change nothing and give False."""
        values: dict[str, Any] = {"status": status, "ended": time.time()} | ({"message": message} if message else {})
        query = update(_runs).where(_runs.c.id == run_id, _runs.c.status.in_(UNDER_WAY)).values(values)
        with self._connected() as connection:
            changed = connection.execute(query).rowcount == 1
        self._announced.pop(run_id, None)
        return changed

    def announce(self, run_id: str, status: Status, message: str = "") -> None:
        """Tell readers of this store the end of a run that `finish` could not store yet."""
        self._announced.setdefault(run_id, (status, message))

    def interrupt_orphans(self) -> int:
        """Mark runs under way whose process is gone as interrupted; how many those were."""
        query = select(_runs.c.id, _runs.c.owner).where(_runs.c.status.in_(UNDER_WAY))
        orphans = [row.id for row in self._rows(query) if not self._lives(row.owner)]
        return sum(self.finish(run_id, "interrupted", INTERRUPTED) for run_id in orphans)

    def _lives(self, owner: str) -> bool:
        """Whether the process that owns a run is still there.

        SQLite's WAL works on one machine only, so another host name belongs to a container that is gone. A server's
        database may be shared with an app on another machine: its runs are not changed.
        """
        host, pid, born = owner.rsplit(":", 2)
        if host != socket.gethostname():
            return not self._sqlite
        try:
            return f"{psutil.Process(int(pid)).create_time():.2f}" == born
        except psutil.Error:
            return False

    # ------------------------------------------------------------------------------------------- reading

    def run(self, run_id: str) -> RunRecord | None:
        """What is known of a run, without its events; None where there is no such run."""
        if not ID.fullmatch(run_id):
            return None
        return next((self._record(row) for row in self._rows(select(_runs).where(_runs.c.id == run_id))), None)

    def members(self, group_id: str) -> list[RunRecord]:
        """The runs of a group in their order; none where there is no such group."""
        if not ID.fullmatch(group_id):
            return []
        query = select(_runs).join(_members, _members.c.run == _runs.c.id).where(_members.c.group == group_id)
        return [self._record(row) for row in self._rows(query.order_by(_members.c.place))]

    def finished_like(self, scenario: Scenario, *, device: str = "cpu") -> RunRecord | None:
        """The latest run that answers this scenario already, None without one.

        It is of the same version and kind of device (see `fingerprint`), was not stopped, and its attack did not fail.
        """
        query = select(_runs).where(_runs.c.fingerprint == fingerprint(scenario, device), _runs.c.status == "finished")
        for row in self._rows(query.order_by(_runs.c.created.desc())):
            end = self.latest(row.id, Finished)
            if end is not None and end.reason not in TROUBLE:
                return self._record(row)
        return None

    def under_way_like(self, scenario: Scenario, owner: str, *, device: str = "cpu") -> list[RunRecord]:
        """The runs under way of an owner that will answer this scenario, the first to be started first."""
        same = (_runs.c.fingerprint == fingerprint(scenario, device), _runs.c.owner == owner)
        query = select(_runs).where(*same, _runs.c.status.in_(UNDER_WAY)).order_by(_runs.c.created)
        return [self._record(row) for row in self._rows(query)]

    def forgotten(self, owner: str, before: float, known: Collection[str]) -> list[str]:
        """Runs that an owner has had under way since before a time, but does not know of."""
        query = select(_runs.c.id).where(
            _runs.c.status.in_(UNDER_WAY), _runs.c.owner == owner, _runs.c.created < before
        )  # fmt: skip
        return [row.id for row in self._rows(query) if row.id not in known]

    def runs(self, limit: int = 50, *, first: str = "") -> list[RunRecord]:
        """The latest attacks, newest first; those that the visitor with the token `first` started lead."""
        query = select(_runs).where(_attacks(_runs))
        if first:
            query = query.order_by(case((_runs.c.visitor == first, 0), else_=1))
        query = query.order_by(_runs.c.created.desc())
        records = []
        for row in self._rows(query.limit(limit)):
            with suppress(UnsupportedScenario):  # kept by a version with other settings: nothing to list
                records.append(self._record(row))
        return records

    def studies(self, keys: Sequence[str]) -> dict[str, RunRecord]:
        """The latest run of each study that has one, by the study's key."""
        query = select(_runs, _studies.c.key).join(_studies, _studies.c.run == _runs.c.id)
        rows = self._rows(query.where(_studies.c.key.in_(keys)).order_by(_runs.c.created))
        return {row.key: self._record(row) for row in rows}

    def position(self, run_id: str) -> int | None:
        """A run's place among the attacks its owner has queued, 1 for the next; None unless it waits."""
        mine, ahead = _runs.alias(), _runs.alias()
        query = (
            select(func.count())
            .select_from(mine.join(ahead, (ahead.c.owner == mine.c.owner) & (ahead.c.created <= mine.c.created)))
            .where(mine.c.id == run_id, mine.c.status == "queued", ahead.c.status == "queued", _attacks(ahead))
        )
        return self._rows(query)[0][0] or None

    @overload
    def events(self, run_id: str) -> list[Event]: ...

    @overload
    def events(self, run_id: str, kind: type[Kind]) -> list[Kind]: ...

    def events(self, run_id: str, kind: type[Kind] | None = None) -> list[Event] | list[Kind]:
        """Every event of a run in order, or those of one class such as `LabelsInferred`."""
        query = select(_events).where(_events.c.run == run_id).order_by(_events.c.seq)
        if kind is not None:
            query = query.where(_events.c.kind == kind.__name__)
        return [_event(row) for row in self._rows(query)]

    def latest(self, run_id: str, kind: type[Kind]) -> Kind | None:
        """The last event of a class, None where there is none yet."""
        query = select(_events).where(_events.c.run == run_id, _events.c.kind == kind.__name__)
        rows = self._rows(query.order_by(_events.c.seq.desc()).limit(1))
        return cast(Kind, _event(rows[0])) if rows else None

    def newest(self, run_ids: Sequence[str], kind: type[Kind]) -> dict[str, Kind]:
        """The last event of a class for each of these runs that has one."""
        of_kind = select(_events.c.run, func.max(_events.c.seq).label("seq")).where(_events.c.kind == kind.__name__)
        last = of_kind.where(_events.c.run.in_(run_ids)).group_by(_events.c.run).subquery()
        query = select(_events).join(last, (last.c.run == _events.c.run) & (last.c.seq == _events.c.seq))
        return {row.run: cast(Kind, _event(row)) for row in self._rows(query)}

    def curve(self, run_id: str, start: int = 0) -> list[Moment]:
        """The numbers of snapshots `start`, `start + 1`, ... in order; no picture is read."""
        query = select(_events.c.snapshot, _events.c.attempt, _events.c.header)
        query = query.where(_events.c.run == run_id, _events.c.snapshot >= start).order_by(_events.c.snapshot)
        return [_moment(row) for row in self._rows(query)]

    def pictures(self, run_id: str, n: int = -1) -> tuple[Moment, tuple[bytes, ...]] | None:
        """The `n`-th snapshot, -1 for the last, and its images as PNG bytes in the attacker's order, or None."""
        count = select(_runs.c.snapshots).where(_runs.c.id == run_id).scalar_subquery()
        query = select(_events).where(_events.c.run == run_id, _events.c.snapshot == (n if n >= 0 else count + n))
        rows = self._rows(query)
        return (_moment(rows[0]), tuple(msgpack.unpackb(rows[0].pictures))) if rows else None

    def history(self, run_id: str) -> list[Event | Moment]:
        """Every event in order, snapshots without their pictures: what `export.summary` reads."""
        pictures = case((_events.c.snapshot.is_(None), _events.c.pictures)).label("pictures")
        query = select(_events.c.kind, _events.c.attempt, _events.c.snapshot, _events.c.header, pictures)
        rows = self._rows(query.where(_events.c.run == run_id).order_by(_events.c.seq))
        return [_event(row) if row.snapshot is None else _moment(row) for row in rows]

    def _record(self, row: Row[Any]) -> RunRecord:
        values = {name: value for name, value in row._mapping.items() if name in _runs.c}
        record = RunRecord(**{**values, "scenario": _scenario(row.scenario)})
        announced = self._announced.get(record.id)
        if announced is None or not record.under_way:
            return record
        status, message = announced
        return replace(record, status=status, message=message or record.message)

    def _rows(self, query: Select[Any]) -> list[Row[Any]]:
        with self._connected() as connection:
            return list(connection.execute(query))


def _is_of_another_version(engine: Engine) -> bool:
    """Whether a database has runs, but not in this version's tables."""
    tables = set(inspect(engine).get_table_names())
    if _runs.name not in tables:
        return False
    if _meta.name not in tables:
        return True
    with engine.connect() as connection:
        return connection.execute(select(_meta.c.value).where(_meta.c.name == "schema")).scalar() != SCHEMA


def _create_tables(engine: Engine) -> None:
    """Create what is missing. The version comes first: tables without one are an old database."""
    _create(engine, _meta)
    with suppress(IntegrityError), engine.begin() as connection:
        connection.execute(insert(_meta).values(name="schema", value=SCHEMA))
    for table in _tables.sorted_tables:
        _create(engine, table)


def _create(engine: Engine, table: Table) -> None:
    """Create a table unless it exists; another process may create it at the same moment."""
    try:
        table.create(engine, checkfirst=True)
    except (OperationalError, ProgrammingError):
        if not inspect(engine).has_table(table.name):
            raise


def _free_name(path: Path) -> Path:
    """The path with today's date before its suffix, and a number where there is such a file already."""
    dated = f"{path.stem}-{datetime.date.today().isoformat()}"
    names = itertools.chain([dated], (f"{dated}-{number}" for number in itertools.count(2)))
    return next(new for name in names if not (new := path.with_name(name + path.suffix)).exists())


def _new_id() -> str:
    return secrets.token_urlsafe(9)


@cache
def this_process() -> str:
    """Who owns a run: host, process id and the time the process was born, since ids are used again."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


# A polled run is the same scenario every time, and scenarios never change: parse each text once.
_scenario = lru_cache(maxsize=256)(Scenario.from_json)


def _attacks(runs: FromClause) -> ColumnElement[bool]:
    """Of runs, those that are no study."""
    return runs.c.id.not_in(select(_studies.c.run))


def _event(row: Row[Any]) -> Event:
    message = {"kind": row.kind, **json.loads(row.header)}
    if row.pictures is not None:
        message[PICTURES[row.kind]] = msgpack.unpackb(row.pictures)
    return from_message(message)


def _moment(row: Row[Any]) -> Moment:
    header = json.loads(row.header)
    header["labels"] = tuple(header["labels"])
    if header.get("score") is not None:
        header["score"] = score_of(Snapshot.__name__, header["score"])
    return Moment(n=row.snapshot, attempt=row.attempt, **header)


def _tune_sqlite(connection: Any, _: object) -> None:
    """WAL: readers never wait for the writer. NORMAL: the last events may be lost if the machine loses power."""
    cursor = connection.cursor()
    for setting in ("busy_timeout = 10000", "journal_mode = WAL", "synchronous = NORMAL"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _data_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "deepleak"
