"""The tables of the run store, and how they come into a database.

One row a run, one row an event; the numbers of an event are JSON text, its pictures a blob in a column of their own.
So curves are read without touching a picture, and pictures are handed on as the PNG bytes that they are.

The table `meta` holds the version of the schema. A database of another version is not read.
"""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    Engine,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

VERSION = "4"  # of the tables below and of the events in them; raised with every change that old readers miss
STOP, FORGET = "stop", "forget"  # what may be asked of the process that owns a run

_tables = MetaData()
META = Table("meta", _tables, Column("name", String(16), primary_key=True), Column("value", Text, nullable=False))
RUNS = Table(
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
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("visitor", String(64), nullable=False, default=""),
    Column("fingerprint", String(64), nullable=False, default=""),
    Column("asked", String(8), nullable=False, default=""),  # STOP or FORGET
    Column("kept", Integer, nullable=False, default=0),  # 1: not forgotten by age or for space
    Index("runs_by_fingerprint", "fingerprint", "created"),
    Index("runs_by_age", "created"),
    Index("runs_by_visitor", "visitor", "created"),
    Index("runs_by_status", "status", "owner", "created"),
    Index("runs_by_asked", "asked", "owner"),
    Index("runs_by_end", "kept", "ended"),
    Index("runs_by_size", "asked", "kept", "bytes"),
)
STUDIES = Table(
    "studies",
    _tables,
    Column("run", String(16), primary_key=True),
    Column("key", String(64), nullable=False),
    Index("studies_by_key", "key"),
)
EVENTS = Table(
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
MEMBERS = Table(
    "members",
    _tables,
    Column("group", String(16), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("run", String(16), nullable=False),
    Index("members_by_run", "run"),
)
PROCESSES = Table(  # that own runs, where they may be on several machines
    "processes", _tables, Column("owner", String(300), primary_key=True), Column("beat", Double, nullable=False)
)


def attacks(table: FromClause = RUNS) -> ColumnElement[bool]:
    """Of runs, those that are no study."""
    return table.c.id.not_in(select(STUDIES.c.run))


def is_of_another_version(engine: Engine) -> bool:
    """Whether a database has runs, but not in this version's tables."""
    tables = set(inspect(engine).get_table_names())
    if RUNS.name not in tables:
        return False
    if META.name not in tables:
        return True
    with engine.connect() as connection:
        return connection.execute(select(META.c.value).where(META.c.name == "schema")).scalar() != VERSION


def create_tables(engine: Engine) -> None:
    """Create what is missing. The version comes first: tables without one are an old database."""
    _create(engine, META)
    with suppress(IntegrityError), engine.begin() as connection:
        connection.execute(insert(META).values(name="schema", value=VERSION))
    for table in _tables.sorted_tables:
        _create(engine, table)


def _create(engine: Engine, table: Table) -> None:
    """Create a table unless it exists; another process may create it at the same moment."""
    try:
        table.create(engine, checkfirst=True)
    except (OperationalError, ProgrammingError, IntegrityError):  # the last one: PostgreSQL
        if not inspect(engine).has_table(table.name):
            raise
