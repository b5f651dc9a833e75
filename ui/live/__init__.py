"""The widgets of the page Live attack.

The page is drawn from the top: cards, sentence, buttons, stage, labels. All of that can be drawn from a recording
before PyTorch, Dask and the database are loaded, and is at the first visit; `session` loads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from ui import address, messages, ownership
from ui.live import actions, details, examples, stage
from ui.live.view import View, first_sight, sentence_of
from ui.top_row import TopRow, top_row
from ui.why import topic_of, why

__all__ = ["Places", "View", "first_sight", "opened", "outcome", "places", "publish", "top"]


@dataclass(frozen=True)
class Places:
    """The containers of the page in their order; they are filled in another one."""

    cards: DeltaGenerator
    row: TopRow
    actions: DeltaGenerator
    drawer: DeltaGenerator
    problems: DeltaGenerator


def places() -> Places:
    """Lay out the top of the page."""
    cards = st.container()
    row = top_row()
    with row.slot:
        buttons = st.container(horizontal=True, width="content", gap="small", key="actions")
        drawer = st.popover("Settings", icon=":material/tune:", key="drawer")
    return Places(cards, row, buttons, drawer, st.container())


def opened(page: Places) -> View:
    """Load what a run needs, draw the controls, and take the scenario or the run from them and from the address."""
    from ui.live import session  # imports PyTorch

    return session.opened(page.drawer)


def top(view: View, page: Places, invitation: Mapping[str, str]) -> None:
    """Everything of the first window: cards, sentence, buttons, problems, the stage and the labels below it."""
    with page.cards:
        picked = examples.draw(view.scenario, locked=view.under_way)
    if picked is not None:
        st.session_state.picked = picked
        st.rerun()
    page.row.say(sentence_of(view, invitation))
    with page.row.why:
        scenario = view.record.scenario if view.record else view.scenario or address.WELCOME
        why(topic_of(scenario, view.recording.finished if view.recording else None))
    actions.draw(view, page.actions)
    with page.problems:
        messages.errors((*view.notices, *view.problems))
        messages.warnings(view.remarks)
        if view.record is not None:
            messages.of_runs(view.record)
    stage.draw(view)
    details.labels(view)


def outcome(view: View) -> None:
    """What a finished run leaves to look up and to take away, for how long it is kept, and the runs before it."""
    from ui.live import keeping, recent

    details.outcome(view)
    if view.record is not None and ownership.is_own(view.record):
        keeping.draw(view.record)
    recent.draw()


def publish(view: View) -> None:
    """Write the address of what is shown."""
    address.publish(view.scenario, st.session_state.run, st.session_state.suspense)
