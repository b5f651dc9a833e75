"""How often each viewer is served, by their number."""

from __future__ import annotations

from ui import backend


def test_refreshes_grow_slower_than_the_crowd() -> None:
    paces = [backend.pace_among(viewers) for viewers in range(1, 200)]
    assert paces[0] == 1
    assert paces == sorted(paces)
    refreshes = [viewers / pace for viewers, pace in enumerate(paces, start=1)]
    assert refreshes[189] < 2.5 * refreshes[39]
