"""The controls of the page, and what its buttons do: whatever needs PyTorch, the engine and the store."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from deepleak_core.errors import DeepLeakError
from deepleak_core.scenario import Scenario
from ui import address, controls, messages, records, visitor
from ui.backend import engine, give_way, limits, store
from ui.live import examples
from ui.live.view import PAGE, View, begin

HIDING = "Placeholders stand in for the private images until the run ends."
FORGOTTEN = "The run that was shown here has been forgotten; run it again."


def opened(drawer: DeltaGenerator) -> View:
    """Draw the controls into the drawer; what the address and they say."""
    state = st.session_state
    engine()  # starts its workers while the visitor looks around
    give_way()
    messages.of_store(store())
    if (news := address.opened(store(), controls.check, arriving=address.arriving(PAGE))) is not None:
        asked, lowered = (news.scenario, []) if news.run_id else limits().lowered(news.scenario)
        compose(asked, news.run_id, news.problems)
        state.remarks = tuple(lowered)
        state.suspense = news.suspense
    if (picked := state.pop("picked", None)) is not None:
        compose(picked)
    record = store().run(state.run) if state.run else None
    if state.run and record is None:
        begin(None, (FORGOTTEN,))
    with drawer:
        scenario, problems = controls.draw(locked=record is not None and record.under_way)
        state.suspense = bool(state.get("suspense"))  # sent once more, as every control is
        st.toggle("Hide the private images", key="suspense", help=HIDING)
    state.untouched = state.untouched or scenario
    if scenario != state.untouched:  # a control was changed: this is a new scenario, not the run shown
        begin(None)
        state.untouched, record = scenario, None
    recording = records.recording_of(record) if record else examples.recorded_for(scenario)
    return View(
        scenario=scenario,
        problems=problems,
        notices=state.problems,
        remarks=state.remarks,
        record=record,
        recording=recording,
        answered=state.answered,
    )


def compose(scenario: Scenario, run_id: str | None = None, problems: tuple[str, ...] = ()) -> None:
    """Set the controls, and show a run of this scenario or none."""
    controls.fill(scenario)
    begin(run_id, problems)


def attack(scenario: Scenario, *, again: bool = False) -> None:
    """Show the run that answers a scenario, a new one if need be or `again`; or the reason why it is refused."""
    compose(scenario)
    state = st.session_state
    try:
        state.run = engine().submit(scenario, again=again, visitor=visitor.identity())
    except DeepLeakError as error:
        state.problems = (str(error),)
        return
    record = store().run(state.run)
    state.answered = record is not None and not record.under_way
