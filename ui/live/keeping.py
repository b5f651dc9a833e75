"""What the owner of a run may do with it: keep it longer than others, and forget it."""

from __future__ import annotations

import streamlit as st

from deepleak_core.runs.store import RunRecord
from ui import ownership, pieces
from ui.backend import keeping, store
from ui.live.view import begin

GONE = "Its pictures, its update and all its figures are deleted, for everyone who has the link. This cannot be undone."
STOPPED_FIRST = "It is stopped first."


def draw(record: RunRecord) -> None:
    """A switch that keeps the run, and a button that forgets it, after it was pressed twice."""
    with st.container(horizontal=True, vertical_alignment="center", key="keeping"):
        with st.popover("Forget this run", icon=":material/delete:", key="forget"):
            st.html(pieces.note(f"{GONE} {STOPPED_FIRST}" if record.under_way else GONE))
            st.button("Forget it", type="primary", key="forget-now", on_click=_forget, args=(record.id,))
        if not record.under_way:
            key = f"keep-{record.id}"
            st.session_state[key] = record.kept
            st.toggle("Keep this run", key=key, on_change=_keep, args=(record.id, key), help=keeping().sentence())


def _forget(run_id: str) -> None:
    ownership.forget(run_id)
    if store().run(run_id) is None:
        begin(None)


def _keep(run_id: str, key: str) -> None:
    ownership.keep(run_id, bool(st.session_state[key]))
