"""What the page shows: a batch and every strategy's answer, from the address and the controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st

from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from deepleak_core.studies.label_accuracy import of_the_update
from ui import address, controls, messages, pieces
from ui.backend import engine, give_way, store
from ui.controls import examples
from ui.label_inference import curves, study
from ui.top_row import TopRow, top_row
from ui.why import why


@dataclass(frozen=True)
class View:
    """The scenario that the controls make, if any, every problem with it, and the run that answers it.

    `default` is the scenario of an address without settings.
    """

    row: TopRow
    default: Scenario
    scenario: Scenario | None
    problems: tuple[str, ...]
    record: RunRecord | None


def opened(offered: Mapping[str, Scenario]) -> View:
    """Draw the first row, `offered` examples and the controls; what the address and they ask.

    The first example is what an address without settings opens.
    """
    state, default = st.session_state, next(iter(offered.values()))
    engine()  # starts its workers while the visitor looks around
    give_way()
    messages.of_store(store())
    arriving = address.arriving("labels")
    if (news := address.opened(store(), controls.check, arriving=arriving, default=default)) is not None:
        controls.fill(of_the_update(news.scenario))
        state.problems, state.untouched = news.problems, None
        curves.choose(st.query_params)
    row, tried = top_row(), st.container()
    with row.slot, st.popover("Settings", icon=":material/tune:"):
        scenario, problems = controls.draw_update()
    with tried:
        examples.draw(scenario, controls.fill, offered)
    if scenario != (state.untouched or scenario):
        state.problems = ()
    state.untouched = scenario
    if scenario is None or problems:
        return View(row, default, scenario, problems, None)
    record, refused = study.answers_of(scenario)
    return View(row, default, scenario, refused, record)


def top(view: View, invitation: str) -> None:
    """The sentence at the top, and problems below."""
    view.row.say(study.sentence(view.record) or invitation)
    with view.row.why:
        why("label-inference" if view.scenario is None or view.scenario.stage == "untrained" else "trained")
    messages.errors((*st.session_state.problems, *view.problems))
    if view.record is not None:
        messages.of_runs(view.record)


def answers(view: View) -> None:
    """One batch: from its update to labels, and every strategy's answer."""
    if view.record is not None:
        study.draw(view.record)


def accuracy(view: View, title: str) -> None:
    """How often each strategy is right."""
    if view.scenario is not None:
        st.html(pieces.step(0, title))
        curves.draw(view.scenario)


def publish(view: View) -> None:
    """Write the address of what is shown."""
    address.publish(view.scenario, extra=curves.chosen(), default=view.default)
