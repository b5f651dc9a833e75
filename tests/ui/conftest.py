"""A small recorded run, made once for all tests of the widgets."""

from __future__ import annotations

import pytest

from deepleak_core import Scenario, run
from deepleak_core.runs.recording import RecordedRun, recorded


@pytest.fixture(scope="package")
def recorded_run() -> RecordedRun:
    """Two images after 30 iterations."""
    scenario = Scenario(indices=(0, 4), max_iterations=30)
    return recorded(scenario, run(scenario))
