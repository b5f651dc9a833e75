"""How often each viewer is served, by their number."""

from __future__ import annotations

from ui import backend
from ui.live import stage


def test_refreshes_grow_slower_than_the_crowd_and_a_class_sees_pictures_within_a_second() -> None:
    paces = [backend.pace_among(viewers) for viewers in range(1, 200)]
    assert paces[0] == 1
    assert paces == sorted(paces)
    assert paces[46] * stage.PICTURE_SECONDS < 0.75
    refreshes = [viewers / pace for viewers, pace in enumerate(paces, start=1)]
    assert refreshes[189] < 2.5 * refreshes[39]
