"""A small recorded run, made once for all tests of the widgets, and what is asked of the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Engine as Connections

from deepleak_core import Scenario, run
from deepleak_core.runs.recording import RecordedRun, recorded


@pytest.fixture(scope="package")
def recorded_run() -> RecordedRun:
    """Two images after 30 iterations."""
    scenario = Scenario(indices=(0, 4), max_iterations=30)
    return recorded(scenario, run(scenario))


@pytest.fixture
def queries() -> Iterator[list[str]]:
    """What is asked of any database."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    sqlalchemy_event.listen(Connections, "before_cursor_execute", note)
    yield asked
    sqlalchemy_event.remove(Connections, "before_cursor_execute", note)
