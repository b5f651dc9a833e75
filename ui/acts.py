"""Pages that tell something in acts: each act is a group of runs with a place of its own in the address.

`?duel=ID&sweep=ID` shows two acts; without any, the address is the scenario of the page, see `address`. The page's
session keeps nothing but ids: what there is to see is read from the store, so a reload or another visitor sees it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from deepleak_core.errors import DeepLeakError, UnsupportedScenario
from deepleak_core.events import Finished
from deepleak_core.runs.scheduling import Schedule
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from ui import address, controls, live, markup
from ui.backend import engine, store

BEGINNING = address.WELCOME.changed(max_iterations=200)  # told within seconds, on two cores and both runs at once


@dataclass(frozen=True)
class Act:
    """A group of runs as far as it is: its records in order, and how each ended; no records where it was not begun."""

    id: str
    runs: tuple[RunRecord, ...] = ()
    ends: tuple[Finished | None, ...] = ()

    @property
    def under_way(self) -> bool:
        return any(run.under_way for run in self.runs)

    @property
    def stopped(self) -> bool:
        """Whether it was ended before it was over."""
        return any(run.status == "stopped" for run in self.runs)

    @property
    def told(self) -> tuple[Finished, ...] | None:
        """How all runs ended; None while one has not, or where one has no outcome."""
        ends = tuple(end for end in self.ends if end is not None)
        return ends if ends and len(ends) == len(self.runs) else None


def read(name: str) -> Act:
    """An act of the page by its name."""
    group_id = st.session_state.acts.get(name)
    if group_id is None:
        return Act("")
    runs = tuple(store().members(group_id))
    return Act(group_id, runs, tuple(live.end_of(run) for run in runs))


def enter(page: str, names: Sequence[str], beginning: Scenario = BEGINNING) -> bool:
    """Take the acts and the scenario of the page from the address; whether that was news."""
    state = st.session_state
    arriving = address.arriving(page) or "acts" not in state
    query = address.news(arriving=arriving)
    if query is None:
        return False
    acts = {name: query[name][-1] for name in query if name in names}
    records = {name: store().members(group_id) for name, group_id in acts.items()}
    state.acts = {name: acts[name] for name in acts if records[name]}
    state.problems = tuple(
        f"There is no comparison {acts[name]!r} here; its link may come from another installation, or be incomplete."
        for name in acts
        if not records[name]
    )
    scenario = records[names[0]][0].scenario if names[0] in state.acts else beginning
    if not acts and set(query) & set(Scenario.model_fields):
        try:
            scenario = Scenario.from_query(query)
            controls.check(scenario)
        except UnsupportedScenario as error:
            scenario, state.problems = beginning, error.problems
    state.base = scenario
    controls.fill(scenario)
    return True


def settings(*, locked: bool) -> tuple[Scenario | None, tuple[str, ...]]:
    """The page's controls of the batch; the scenario they make, and why it cannot run. A new one leaves the acts."""
    state = st.session_state
    scenario, problems = controls.draw_few(state.base, locked=locked)
    if scenario is not None and scenario != state.base:
        state.base, state.acts, state.problems = scenario, {}, ()
    return scenario, problems


def leave() -> None:
    """Leave what was played: a choice was changed."""
    st.session_state.acts = {}


def begin(
    name: str, scenarios: Sequence[Scenario], schedule: Schedule = "side by side", *, instead_of: Sequence[str] = ()
) -> None:
    """Have an act played, in place of others that no longer fit; or say why it is not."""
    state = st.session_state
    try:
        group_id = engine().submit_group(scenarios, schedule)
        state.acts = {n: i for n, i in state.acts.items() if n not in (name, *instead_of)} | {name: group_id}
        state.problems = ()
    except DeepLeakError as error:
        state.problems = (str(error),)


def stop(act: Act) -> None:
    """End an act with all its runs."""
    engine().stop(next(run.id for run in act.runs if run.under_way))


def publish(beginning: Scenario = BEGINNING) -> None:
    """Make the address say what the page shows."""
    state = st.session_state
    scenario: Scenario = state.base
    address.write(state.acts or ({} if scenario == beginning else scenario.to_query()))


def messages(*acts: Act, problems: Sequence[str] = ()) -> None:
    """What went wrong, in sentences."""
    for problem in (*st.session_state.problems, *problems):
        st.error(problem)
    for message in dict.fromkeys(run.message for act in acts for run in act.runs if run.message):
        st.warning(message)


def said(sentence: str, how: str, act: Act | None = None) -> None:
    """The one sentence at the top, with the link to how it works behind it; it says when an act was stopped."""
    early = "Stopped early. " if act is not None and act.stopped else ""
    st.html(markup.headline(early + sentence, f'<a href="{how}" target="_blank">How it works</a>'))
