"""The clock of an attack."""

from __future__ import annotations

import time

import pytest

from deepleak_core.attack.clock import Clock


def test_it_stands_still_while_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 10.0, 17.0, 20.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    clock = Clock()
    with clock.paused():
        pass
    assert clock.seconds == 20.0 - 7.0


def test_an_error_ends_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 5.0, 6.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    clock = Clock()
    with pytest.raises(KeyError), clock.paused():
        raise KeyError
    assert clock.seconds == 2.0
