"""One batch on the page: every strategy's answer, asked of the engine and read from the store.

A study is computed by a worker, once for all who ask the same, and stays in the store. What is drawn here only reads;
while answers are missing a fragment looks again, and at the end the whole page is drawn once more.
"""

from __future__ import annotations

import time

import streamlit as st
from markupsafe import Markup

from deepleak_core.data.datasets import names_of_classes
from deepleak_core.errors import DeepLeakError
from deepleak_core.events import Downloading, LastLayerRead, StrategyAnswered
from deepleak_core.labels.certification import time_limit
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from deepleak_core.studies.label_accuracy import Study, verdict
from ui import messages, pictures, records, shell, visitor
from ui.backend import engine, give_way, store
from ui.label_inference import chips, tables
from ui.rendering import render

LOOK_SECONDS = 0.4  # how often a missing answer is looked for
PATIENCE_SECONDS = 1.0  # how long the page waits for answers before it is drawn without them
KEPT, READ = "What the client keeps", "What the server reads from the update"
TABLES = ("Step by step: from the update to labels", "Every strategy, class by class")


def answers_of(scenario: Scenario) -> tuple[RunRecord | None, tuple[str, ...]]:
    """The run that answers this scenario, and why there is none where the question is refused.

    A session asks once, and again when the scenario is another.
    """
    study, state = Study(scenario=scenario), st.session_state
    asked, run_id = state.get("asked", ("", ""))
    if asked != study.key:
        try:
            run_id = engine().study(study, visitor=visitor.identity())
        except DeepLeakError as error:
            return None, (str(error),)
        state.asked = study.key, run_id
        _wait(run_id)
    return store().run(run_id), ()


def _wait(run_id: str) -> None:
    """Most answers take a moment: better drawn once than twice."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (record := store().run(run_id)) and record.under_way and time.monotonic() < deadline:
        time.sleep(0.03)


def sentence(record: RunRecord | None) -> str:
    """Who has the batch right, once all strategies have answered; empty before."""
    if record is None:
        return ""
    answers = store().events(record.id, StrategyAnswered)
    return verdict(answers, names_of_classes(record.scenario)) if len(answers) == len(STRATEGIES) else ""


def draw(record: RunRecord) -> None:
    """The private batch beside every strategy's answer so far, and two tables on request."""
    shell.fragment(_draw, run_every=LOOK_SECONDS if record.under_way else None)(
        record.id, record.under_way, records.hindrances(record)
    )  # fmt: skip


def _draw(run_id: str, busy: bool, hindered: tuple[str, ...]) -> None:
    give_way()
    record = store().run(run_id)
    if record is None or (busy and (not record.under_way or records.hindrances(record) != hindered)):
        st.rerun()
    if busy:
        messages.of_engine(engine())
    names = names_of_classes(record.scenario)
    read = store().latest(run_id, LastLayerRead)
    answers = store().events(run_id, StrategyAnswered)[-len(STRATEGIES) :]  # the last attempt's, if a worker was lost
    awaited = _words(record) if record.under_way or not answers else ""
    given = chips.answers(answers, names, awaited=awaited)
    with st.container(key="answers"):
        st.html(render("inference.html", kept=KEPT, batch=_batch(record.scenario), read=READ, answers=given))
    if read is None or not answers:
        return
    shown = tables.columns(read, answers)
    with st.expander(TABLES[0], icon=":material/stairs:"):
        st.html(tables.steps(read, names, shown, answers))
    with st.expander(TABLES[1], icon=":material/table:"):
        st.html(tables.matrix(answers, names, shown, awaited=awaited))


def _batch(scenario: Scenario) -> Markup:
    """The private images, or why they cannot be shown."""
    try:
        return pictures.square(*records.private_batch(scenario))
    except DeepLeakError as error:
        return messages.note(str(error))


def _words(record: RunRecord) -> str:
    """What an answer waits for."""
    if record.status == "queued":
        return records.why_waiting(record)[1]
    if record.message:
        return record.message
    download = store().latest(record.id, Downloading)
    if download is not None and store().latest(record.id, LastLayerRead) is None:
        return f"Downloading {download.dataset}: {download.bytes_done / 1e6:.0f} MB"
    if not record.under_way:
        return "There is no answer."
    since, most = time.time() - (record.started or time.time()), time_limit(record.scenario.batch_size)
    return f"Computing for {since:.0f} s; certification takes at most {most:.0f} s."
