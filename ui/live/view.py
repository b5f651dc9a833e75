"""What the page shows, a scenario or a run of it: read from the address and the controls, changed by its buttons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from deepleak_core.errors import DeepLeakError
from deepleak_core.events import Finished
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from ui import address, controls, messages, pieces, records, visitor
from ui.backend import engine, give_way, store
from ui.controls import examples
from ui.live.next_step import next_step
from ui.live.recent import described

RECENT = 8  # runs in the list of recent ones
HIDING = "Hidden until the run ends."


@dataclass(frozen=True)
class View:
    """The scenario that the controls make, if any, every problem with it, and the run that is shown, if any."""

    scenario: Scenario | None
    problems: tuple[str, ...]
    record: RunRecord | None

    @property
    def under_way(self) -> bool:
        """Whether the run goes on."""
        return self.record is not None and self.record.under_way

    @property
    def finished(self) -> Finished | None:
        """The outcome of the run."""
        return records.end_of(self.record) if self.record else None

    @property
    def hidden(self) -> bool:
        """Whether the private images are hidden."""
        return bool(st.session_state.suspense) and (self.record is None or self.under_way)


def opened(offered: Mapping[str, Scenario]) -> View:
    """Draw the controls in the sidebar, with `offered` examples; what the address and they say."""
    state = st.session_state
    engine()  # starts its workers while the visitor looks around
    give_way()
    messages.of_store(store())
    if (news := address.opened(store(), controls.check, arriving=address.arriving("live"))) is not None:
        _compose(news.scenario)
        state.run, state.suspense, state.problems = news.run_id, news.suspense, news.problems
    record = store().run(state.run) if state.run else None
    locked = record is not None and record.under_way
    with st.sidebar:
        top = st.container()
        scenario, problems = controls.draw(locked=locked)
        with top:
            examples.draw(scenario, _compose, offered, locked=locked)
            st.toggle("Hide the private images", key="suspense", help=HIDING)
        with st.popover("Recent runs", icon=":material/history:", width="stretch"):
            for recent in store().runs(limit=RECENT, first=visitor.token()):
                words = described(recent)
                st.button(words, key=f"open-{recent.id}", on_click=_show, args=(recent.id,), type="tertiary")
    state.untouched = state.untouched or scenario
    if scenario != state.untouched:  # a control was changed: this is a new scenario, not the run shown
        state.run = record = None
        state.untouched, state.problems = scenario, ()
    return View(scenario, problems, record)


def top(view: View, invitation: Mapping[str, str]) -> None:
    """The sentence at the top, the buttons beside it, and problems below; `invitation` is by mode of the scenario."""
    further = next_step(view.record.scenario, view.finished) if view.record and view.finished else None
    words, buttons = st.columns([3, 2] if further else [4, 1], vertical_alignment="center")
    with buttons, st.container(horizontal=True, horizontal_alignment="right"):
        if view.record is not None and view.under_way:
            st.button(
                "Stop", icon=":material/stop:", key="stop", width="stretch", on_click=engine().stop,
                args=(view.record.id,),
            )  # fmt: skip
        else:
            st.button(
                "Run again" if view.record else "Run the attack", type="secondary" if further else "primary",
                icon=":material/play_arrow:", key="start", width="stretch", on_click=_attack, args=(view.scenario,),
                kwargs={"again": view.record is not None},
                disabled=view.scenario is None or bool(view.problems),
            )  # fmt: skip
        if further is not None:
            st.button(
                further.words, type="primary", icon=further.icon, width="stretch", key="further",
                on_click=_attack, args=(further.scenario,), help=further.help,
            )  # fmt: skip
    with words:
        st.html(pieces.headline(_sentence(view, invitation)))
    messages.errors((*st.session_state.problems, *view.problems))
    if view.record is not None:
        messages.of_runs(view.record)


def _sentence(view: View, invitation: Mapping[str, str]) -> str:
    if view.record is None:
        return invitation[view.scenario.mode if view.scenario else "fedsgd"]
    if view.under_way:
        source = "gradient" if view.record.scenario.mode == "fedsgd" else "weights"
        return f"The server rebuilds the private images from the shared {source}."
    stopped = view.record.status == "stopped"
    if view.finished is not None:
        return ("Stopped early. " if stopped else "") + view.finished.sentence
    return "Stopped before it began." if stopped else "This run has no outcome."


def publish(view: View) -> None:
    """Write the address of what is shown."""
    address.publish(view.scenario, st.session_state.run, st.session_state.suspense)


# ------------------------------------------------------------------------------------------------ what buttons do


def _compose(scenario: Scenario) -> None:
    """Leave the run that is shown and set the controls."""
    state = st.session_state
    controls.fill(scenario)
    state.run, state.untouched, state.problems = None, None, ()


def _show(run_id: str) -> None:
    """Show a run, with the controls set to its scenario."""
    if (record := store().run(run_id)) is not None:
        _compose(record.scenario)
        st.session_state.run = run_id


def _attack(scenario: Scenario, *, again: bool = False) -> None:
    """Show the run that answers a scenario, a new one if need be or `again`; or the reason why it is refused."""
    _compose(scenario)
    try:
        st.session_state.run = engine().submit(scenario, again=again, visitor=visitor.token())
    except DeepLeakError as error:
        st.session_state.problems = (str(error),)
