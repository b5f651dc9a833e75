"""Databases to test with: SQLite, and PostgreSQL where there is a server or the programs to start one."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

START_SECONDS = 60


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a PostgreSQL server: `DEEPLEAK_TEST_DB`, else one that is started for these tests."""
    pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
    if given := os.environ.get("DEEPLEAK_TEST_DB"):
        yield given
        return
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    programs += [Path(found)] if (found := shutil.which("initdb")) else []
    if not programs:
        pytest.skip("no PostgreSQL here: set DEEPLEAK_TEST_DB to the address of a server")
    with tempfile.TemporaryDirectory(prefix="deepleak-pg-") as folder:
        yield from _started(programs[-1].parent, Path(folder))


def _started(programs: Path, folder: Path) -> Iterator[str]:
    """A server with its data and its socket in a folder, reached by nobody else; it refuses to run as root."""
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        shutil.chown(folder, user)

    def call(program: str, *options: str) -> None:
        command = [str(programs / program), "-D", f"{folder}/data", *options]
        subprocess.run(
            command, check=True, user=user if os.getuid() == 0 else None, cwd=folder, timeout=START_SECONDS,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    call("initdb", "--auth=trust", "--no-sync", f"--username={user}")
    call("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", f"-c listen_addresses='' -c fsync=off -k {folder}")
    try:
        yield f"postgresql+psycopg://{user}@/postgres?host={folder}"
    finally:
        call("pg_ctl", "stop", "-m", "immediate")


@pytest.fixture
def postgresql(server: str) -> Iterator[str]:
    """The address of a new database on the server."""
    name = f"deepleak_{secrets.token_hex(4)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.sqlite'}"
    address: str = request.getfixturevalue("postgresql")
    return address
