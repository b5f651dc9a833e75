"""The connection to the run database: opening it, and what its failures are called.

An SQLite file belongs to its user alone: it is made with mode 600, and a folder made for it with mode 700. SQLite gives
the files beside it, `-wal` and `-shm`, the mode of the database. It goes on with a file that was moved, and makes a new
one in its place; here, a database is out of reach until its own file is back.
"""

from __future__ import annotations

import datetime
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Row, Select, create_engine, make_url
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from deepleak_core.environment import DATABASE
from deepleak_core.errors import StoreUnavailable
from deepleak_core.runs import schema

logger = logging.getLogger(__name__)

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
SQLITE = (
    "busy_timeout = 10000",  # milliseconds
    "auto_vacuum = INCREMENTAL",  # so that space can be given back; before WAL, which writes the first page
    "journal_mode = WAL",  # readers never wait for the writer
    "journal_size_limit = 16000000",  # bytes that the WAL keeps once it is written back
    "synchronous = NORMAL",  # the last events may be lost if the machine loses power
)
MOVED = "The file of the run database was moved or replaced; put it back where it was, or restart the app."


class Database:
    """A database with the tables of `schema`, safe to share among threads and processes.

    Args:
        url: An SQLAlchemy address; by default `DEEPLEAK_DB`, or an SQLite file in the user's data folder.

    Attributes:
        notice: A sentence for the user where an SQLite file of another version was set aside, else empty.
        sqlite: Whether it is a file of SQLite, which one machine uses at a time.

    Raises:
        StoreUnavailable: The database cannot be opened, or is a server's and of another version.
    """

    def __init__(self, url: str | None = None):
        url = url or DATABASE.value() or f"sqlite:///{_data_folder() / 'runs.sqlite'}"
        self.notice = ""
        try:
            address = make_url(url)
            self.sqlite = address.get_backend_name() == "sqlite"
            if self.sqlite:
                name = address.database or ":memory:"
                if name == ":memory:" or name.startswith("file:"):
                    raise ArgumentError("an SQLite database is given by the path of its file")
                _make_private(Path(name))
            self._engine = create_engine(
                address,
                pool_pre_ping=True,  # connections may be lost between uses
                hide_parameters=True,  # errors are logged; parameters are scenarios and identities of visitors
            )
            if self.sqlite:
                listen(self._engine, "do_connect", _make_no_file)
                listen(self._engine, "connect", _tune_sqlite)
            if schema.is_of_another_version(self._engine):
                self._set_aside(address)
            schema.create_tables(self._engine)
            self._path = Path(str(address.database)).absolute() if self.sqlite else None
            self._file = _identity(self._path)
        except (ArgumentError, DatabaseError, ImportError, OSError) as error:
            _log_reason("could not be opened", error)
            raise StoreUnavailable(
                "The run database could not be opened, the log says why; set DEEPLEAK_DB to an SQLAlchemy address such "
                "as sqlite:////home/me/runs.sqlite."
            ) from error

    def _set_aside(self, address: URL) -> None:
        """Rename the file of an SQLite database of another version, so that a new one takes its place."""
        if not self.sqlite:
            raise StoreUnavailable(
                "The run database belongs to another version of DeepLeak; set DEEPLEAK_DB to an empty database, or use "
                "the version that made it."
            )
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self._engine.dispose()
        old = Path(str(address.database))
        new = _free_name(old)
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                Path(f"{old}{suffix}").rename(f"{new}{suffix}")
        _make_private(old)
        self.notice = (
            f"The run database was made by another version of DeepLeak, which this one cannot read; it was renamed to "
            f"{new.name}, and a new one begun."
        )
        logger.warning("%s", self.notice)

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection for one transaction. Raises `StoreUnavailable` where the database cannot answer."""
        self._require_file()
        try:
            with self._engine.begin() as connection:
                yield connection
        except (DBAPIError, NoConnection) as error:
            _log_reason("did not answer", error)
            raise StoreUnavailable(
                "The run database did not answer; try again in a moment. If this lasts, it may be locked, full or "
                "gone: see the log of the app."
            ) from error

    def _require_file(self) -> None:
        """Raise `StoreUnavailable` where a file that SQLite has opened is not at its path any more."""
        try:
            if _identity(self._path) == self._file:
                return
            reason: OSError = FileExistsError("another file is there")
        except OSError as error:
            reason = error
        _log_reason("is not where it was", reason)
        raise StoreUnavailable(MOVED) from reason

    def rows(self, query: Select[Any]) -> list[Row[Any]]:
        """What a query finds."""
        with self.connected() as connection:
            return list(connection.execute(query))

    def give_back(self, pages: int) -> bool:
        """Give the space of some pages that hold nothing any more back to the system; whether more are left.

        A database of a server does this by itself, and a file that was made by another program may not be able to.
        """
        if not self.sqlite:
            return False
        with self.connected() as connection:
            before = _free_pages(connection)
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()  # one page for each row
            return 0 < _free_pages(connection) < before


def storable(text: str) -> str:
    r"""A text that every database takes: without NUL and without halves of characters.

    >>> storable("a\0b\udcff")
    'a?b?'
    """
    return text.replace("\0", "?").encode("utf-8", "replace").decode()


def _log_reason(what: str, error: Exception) -> None:
    """Log the driver's words, which name hosts and files: visitors see the words of `StoreUnavailable`."""
    reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
    logger.warning("The run database %s (%s: %s).", what, type(error).__name__, reason)


def _make_private(path: Path) -> None:
    """Make an empty file for a database unless there is one, and the folders above; nobody else may read them."""
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    with suppress(OSError):  # where it belongs to somebody else, or may only be read: SQLite says what it cannot do
        if path.parent == _data_folder():
            path.parent.chmod(PRIVATE_FOLDER)  # older versions made it readable
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE))
        path.chmod(PRIVATE_FILE)


def _identity(path: Path | None) -> tuple[int, int] | None:
    """What a file is to the system, whatever its name."""
    if path is None:
        return None
    state = path.stat()
    return state.st_dev, state.st_ino


def _free_pages(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar() or 0)


def _free_name(path: Path) -> Path:
    """The path with today's date before its suffix, and a number where there is such a file already."""
    dated = f"{path.stem}-{datetime.date.today().isoformat()}"
    names = itertools.chain([dated], (f"{dated}-{number}" for number in itertools.count(2)))
    return next(new for name in names if not (new := path.with_name(name + path.suffix)).exists())


def _make_no_file(_dialect: object, _record: object, args: list[Any], options: dict[str, Any]) -> None:
    """Have SQLite open a file only where there is one."""
    args[0] = f"{Path(args[0]).absolute().as_uri()}?mode=rw"
    options["uri"] = True


def _tune_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for setting in SQLITE:
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _data_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "deepleak"
