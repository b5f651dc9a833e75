"""Where the visitor is in the tour, and the bar that leads on.

The step is the parameter `tour` of the address, 1 for the first, so that a link opens it. `ui.address` keeps it when a
page writes its own address.
"""

from __future__ import annotations

import streamlit as st

from ui.address import TOUR
from ui.rendering import render
from ui.tour.steps import STEPS, Step


def bar() -> None:
    """Draw the bar of the step that the address names, if it names one."""
    number = _number()
    if number is None:
        return
    st.session_state.tour_step = number
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="tour"):
        st.html(render("tour.html", number=number, total=len(STEPS), sentence=STEPS[number - 1].sentence))
        last = number == len(STEPS)
        if number > 1:
            _link("Back", number - 1)
        if not last:
            with st.container(key="tour-next", width="content"):
                _link("Next", number + 1)
        st.button("Finish" if last else "Leave the tour", type="tertiary", key="tour-leave", on_click=_leave)


def enter() -> None:
    """Go to the step where this visitor left the tour, else to the first."""
    step, query = _target(st.session_state.get("tour_step", 1))
    st.switch_page(_file(step), query_params=query)


def _number() -> int | None:
    """The step in the address; None where there is none of this number."""
    text = st.query_params.get(TOUR, "")
    return next((n for n in range(1, len(STEPS) + 1) if text == str(n)), None)


def _link(words: str, number: int) -> None:
    step, query = _target(number)
    st.page_link(_file(step), label=words, query_params=query)


def _target(number: int) -> tuple[Step, dict[str, str]]:
    step = STEPS[number - 1]
    return step, {**step.query, TOUR: str(number)}


def _file(step: Step) -> str:
    return f"pages/{step.page}.py"


def _leave() -> None:
    """Stay on the page; `enter` resumes the tour, after its last step at the first one."""
    if st.session_state.tour_step == len(STEPS):
        st.session_state.tour_step = 1
    del st.query_params[TOUR]
