"""Databases to test with: SQLite, and PostgreSQL where there is a server or the programs to start one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.runs.postgresql import Server, programs, started_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server that is started for these tests."""
    pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
    if programs() is None:
        pytest.skip("no PostgreSQL here")
    with started_server() as started:
        yield started


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
