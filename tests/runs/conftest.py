"""Databases to test with: SQLite, and PostgreSQL where there is a server or the programs to start one."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server with its data and its socket in a folder, reached by nobody else."""

    programs: Path
    folder: Path
    user: str

    @property
    def address(self) -> str:
        return f"postgresql+psycopg://{self.user}@/postgres?host={self.folder}"

    def start(self) -> None:
        settings = f"-c listen_addresses='' -c fsync=off -k {self.folder}"
        self._call("pg_ctl", "start", "-w", "-l", f"{self.folder}/log", "-o", settings)

    def stop(self) -> None:
        self._call("pg_ctl", "stop", "-w", "-m", "immediate")

    def make(self) -> None:
        self._call("initdb", "--auth=trust", "--no-sync", f"--username={self.user}")

    def _call(self, program: str, *options: str) -> None:
        subprocess.run(
            [str(self.programs / program), "-D", f"{self.folder}/data", *options], cwd=self.folder, check=True,
            user=self.user if os.getuid() == 0 else None, timeout=START_SECONDS,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server that is started for these tests; it refuses to run as root."""
    pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    programs += [Path(found)] if (found := shutil.which("initdb")) else []
    if not programs:
        pytest.skip("no PostgreSQL here")
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="deepleak-pg-") as folder:
        if os.getuid() == 0:
            shutil.chown(folder, user)
        server = Server(programs[-1].parent, Path(folder), user)
        server.make()
        server.start()
        yield server
        server.stop()


@pytest.fixture
def postgresql(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a new database, on the server of `DEEPLEAK_TEST_DB` or one that is started."""
    address = os.environ.get("DEEPLEAK_TEST_DB") or request.getfixturevalue("server").address
    name = f"deepleak_{secrets.token_hex(4)}"
    engine = create_engine(address, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(address).set(database=name).render_as_string(hide_password=False)
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
