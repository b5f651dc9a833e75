"""What the controls say of an attack's cost before it is started."""

from __future__ import annotations

import pytest
import streamlit as st

from deepleak_core.runs.estimates import Cost
from deepleak_core.scenario import Scenario
from ui.controls.estimates import cost_sentence

PHOTOS = Scenario(dataset="imagenet-samples", indices=(0,), image_size=64)
SLOW, FAST = (Cost(body={64: each, 96: 2 * each, 160: 5 * each}, fixed=0.0, head=0.0) for each in (1.0, 1e-6))


@pytest.mark.parametrize(("cost", "limit", "ends"), [(SLOW, "180", True), (SLOW, "none", False), (FAST, "180", False)])
def test_the_limit_of_the_server_is_said_where_an_attack_would_take_longer(
    cost: Cost, limit: str, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPLEAK_MAX_SECONDS", limit)
    st.cache_resource.clear()
    try:
        assert ("ends after 3 min" in cost_sentence(PHOTOS, cost)) == ends
    finally:
        st.cache_resource.clear()
