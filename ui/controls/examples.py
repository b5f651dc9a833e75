"""Scenarios that one click sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from deepleak_core.scenario import Scenario


def draw(current: Scenario | None, choose: Callable[[Scenario], None], offered: Mapping[str, Scenario]) -> None:
    """Draw a button for each example; the one that the controls make is marked."""
    state = st.session_state
    state.example = next((name for name, scenario in offered.items() if scenario == current), None)

    def chosen() -> None:
        if state.example is not None:
            choose(offered[state.example])

    st.pills("Try", list(offered), key="example", on_change=chosen, label_visibility="collapsed")
