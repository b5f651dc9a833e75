"""The buttons of the page, in one place of fixed size. Imports no PyTorch; what a button does, does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from deepleak_core.scenario import Scenario
from ui import ownership
from ui.live.view import View

if TYPE_CHECKING:
    from ui.live.next_step import NextStep


def draw(view: View, place: DeltaGenerator) -> None:
    """Stop during a run, for who may; else start one, or after a run what promises more and the same once more."""
    with place:
        if view.record is not None and view.under_way:
            if ownership.may_stop(view.record):
                args = ([view.record],)
                st.button("Stop", icon=":material/stop:", key="stop", on_click=ownership.stop, args=args)
            return
        further = _further(view)
        if further is not None:
            st.button(
                further.words, type="primary", icon=further.icon, key="further", help=further.help,
                on_click=_attack, args=(further.scenario,),
            )  # fmt: skip
        words, icon = _start(view)
        st.button(
            words, type="secondary" if further else "primary", icon=icon, key="start",
            on_click=_attack, args=(view.scenario,), kwargs={"again": view.record is not None},
            disabled=view.scenario is None or bool(view.problems),
        )  # fmt: skip


def _further(view: View) -> NextStep | None:
    """The attack that is offered after a run."""
    if view.record is None or view.finished is None:
        return None
    from ui.live.next_step import next_step  # imports PyTorch

    return next_step(view.record.scenario, view.finished)


def _start(view: View) -> tuple[str, str]:
    if view.record is not None:
        return "Run again", ":material/replay:"
    return "Run it live on this machine" if view.recording else "Run the attack", ":material/play_arrow:"


def _attack(scenario: Scenario, *, again: bool = False) -> None:
    from ui.live import session  # imports PyTorch

    if not ownership.has_just_stopped():
        session.attack(scenario, again=again)
