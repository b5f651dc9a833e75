"""Load in its short form: memory and space that many runs take are bounded."""

from __future__ import annotations

import pytest

from benchmarks import load
from deepleak_core.runs import housekeeping


@pytest.mark.slow
def test_many_runs_take_bounded_memory_and_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "EVERY", 5)
    monkeypatch.setattr(load, "KEPT_MB", 0.1)
    monkeypatch.setattr(housekeeping, "TIDY_SECONDS", 0.2)
    memory, database, failed = (values for values, _ in load.growth(20).values())
    assert memory[0] < 50
    assert max(database) < 10
    assert failed == [0]
