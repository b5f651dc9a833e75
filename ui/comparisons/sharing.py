"""The control for how many images of a batch share a label."""

from __future__ import annotations

import streamlit as st

from deepleak_core.scenario import Scenario
from deepleak_core.studies import fusion
from ui.comparisons import groups


def fill(scenario: Scenario | None, default: int | None = None) -> None:
    """Set the control to a scenario's batch, or to the default."""
    st.session_state.share = fusion.sharing(scenario) if scenario else default


def share(scenario: Scenario, *, locked: bool) -> int:
    """Draw the control; from 1, all labels different, to all images. Raises `DeepLeakError` for want of images."""
    offered = list(fusion.shares(scenario)) or [scenario.batch_size]
    if st.session_state.get("share") not in offered:
        st.session_state.share = offered[-1]
    if len(offered) == 1:
        return offered[0]
    chosen: int = st.select_slider(
        "Images that share a label", offered, key="share", on_change=groups.leave, disabled=locked, width=170
    )
    return chosen
