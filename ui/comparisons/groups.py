"""The groups of runs of a comparison page: what the store knows of them, and where the page keeps their ids.

`?pair=ID&sweep=ID` shows two groups; without any, the address is the scenario of the page, see `address`. The session
keeps ids only: everything shown is read from the store, so a reload or another visitor sees the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from deepleak_core.errors import DeepLeakError, UnsupportedScenario
from deepleak_core.events import Finished
from deepleak_core.runs.scheduling import Schedule
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from ui import address, controls, ownership, records, visitor
from ui.backend import engine, limits, store

DEFAULT = address.WELCOME.changed(max_iterations=200)  # two such runs side by side end within seconds on two cores


@dataclass(frozen=True)
class Group:
    """A group of runs: its records in order, and how each ended; no records where it was not started."""

    id: str = ""
    runs: tuple[RunRecord, ...] = ()
    ends: tuple[Finished | None, ...] = ()

    @property
    def under_way(self) -> bool:
        """Whether a run goes on."""
        return any(run.under_way for run in self.runs)

    @property
    def stopped(self) -> bool:
        """Whether a run was stopped."""
        return any(run.status == "stopped" for run in self.runs)

    @property
    def finished(self) -> tuple[Finished, ...] | None:
        """How all runs ended; None while one goes on, or where one has no outcome."""
        ends = tuple(end for end in self.ends if end is not None)
        return ends if ends and len(ends) == len(self.runs) else None


Groups = Mapping[str, Group]  # by name, in the order in which they were started


def started() -> dict[str, Group]:
    """Every group of the page that was started, in that order."""
    read = {name: _read(group_id) for name, group_id in st.session_state.groups.items()}
    return {name: group for name, group in read.items() if group.runs}  # others have been forgotten


def _read(group_id: str) -> Group:
    runs = tuple(store().members(group_id))
    return Group(group_id, runs, tuple(records.end_of(run) for run in runs))


def enter(page: str, names: Sequence[str]) -> bool:
    """Take the groups and the scenario of the page from the address; whether they are new."""
    state = st.session_state
    arriving = address.arriving(page) or "groups" not in state
    query = address.news(arriving=arriving)
    if query is None:
        return False
    asked = {name: query[name][-1] for name in query if name in names}
    found = {name: members for name, group_id in asked.items() if (members := store().members(group_id))}
    state.groups = {name: asked[name] for name in found}
    state.problems = tuple(
        f"There is no comparison {group_id!r} here. It was forgotten, or its link is incomplete or of another server."
        for name, group_id in asked.items()
        if name not in found
    )
    state.remarks = ()
    state.base = found[names[0]][0].scenario if names[0] in found else DEFAULT
    if not asked and set(query) & set(Scenario.model_fields):
        try:
            scenario = Scenario.from_query(query)
            controls.check(scenario)
            state.base, lowered = limits().lowered(scenario)
            state.remarks = tuple(lowered)
        except UnsupportedScenario as error:
            state.problems = (*error.problems, address.DISCARDED)
    controls.fill(state.base)
    return True


def settings(*, locked: bool) -> tuple[Scenario | None, tuple[str, ...]]:
    """Draw the controls of the batch; the scenario they make and its problems. A new scenario leaves all groups."""
    state = st.session_state
    scenario, problems = controls.draw_few(state.base, locked=locked)
    if scenario is not None and scenario != state.base:
        state.base, state.groups, state.problems, state.remarks = scenario, {}, (), ()
    return scenario, problems


def leave() -> None:
    """Leave all groups: a choice was changed."""
    st.session_state.groups = {}


def start(
    name: str, scenarios: Sequence[Scenario], schedule: Schedule, *, instead_of_all: bool, again: bool = False
) -> None:
    """Show a group, in place of all others or of the one of its name; or keep the reason why it is refused.

    Runs that have answered the same scenario are taken, unless they shall run `again`. The group is then remembered as
    answered, where all of its runs had ended.
    """
    state = st.session_state
    try:
        group_id = engine().submit_group(scenarios, schedule, again=again, visitor=visitor.identity())
    except DeepLeakError as error:
        state.problems = (str(error),)
        return
    kept = {} if instead_of_all else {other: group for other, group in state.groups.items() if other != name}
    state.groups, state.problems = kept | {name: group_id}, ()
    if not any(run.under_way for run in store().members(group_id)):
        state.answered_group = group_id


def answered(group_id: str) -> bool:
    """Whether this visitor's latest question was answered by this group, which had ended before."""
    return bool(group_id) and st.session_state.get("answered_group") == group_id


def stop(group: Group) -> None:
    """End a group with those of its runs that this visitor may stop."""
    ownership.stop(group.runs)


def publish() -> None:
    """Write the address of what the page shows."""
    state = st.session_state
    scenario: Scenario = state.base
    address.write(state.groups or ({} if scenario == DEFAULT else scenario.to_query()))
