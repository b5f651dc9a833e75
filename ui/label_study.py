"""One batch laid open on the page: its question asked of the engine, its answer read from the store.

A study is computed by a worker, once for all who ask the same, and stays (see `store`). What is drawn here only
reads; while an answer is on its way a fragment looks again, and at the end the whole page is drawn once more.
"""

from __future__ import annotations

import time

import streamlit as st

from deepleak_core.data.datasets import names_of_classes
from deepleak_core.events import Downloading, LastLayerRead, StrategyAnswered
from deepleak_core.labels.certification import patience
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from deepleak_core.studies.label_accuracy import Study, verdict
from ui import label_markup, live, markup
from ui.backend import engine, give_way, store

LOOK_SECONDS = 0.4  # how often an answer on its way is looked for
PATIENCE_SECONDS = 1.0  # what most answers take: so long the page waits before it says that it waits


def ask(scenario: Scenario) -> str:
    """The run that lays this scenario's batch open; a session asks once, and again when the scenario is another.

    Raises `DeepLeakError` where the question is not taken on.
    """
    study, state = Study(scenario=scenario), st.session_state
    asked, run_id = state.get("asked", ("", ""))
    if asked != study.key:
        run_id = engine().study(study)
        state.asked = study.key, run_id
        _wait(run_id)
    return run_id


def _wait(run_id: str) -> None:
    """Most answers are there in a moment: better drawn once than twice."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while store().run(run_id).under_way and time.monotonic() < deadline:
        time.sleep(0.03)


def said(run_id: str, scenario: Scenario) -> str:
    """The sentence about a batch whose strategies have all answered, empty before."""
    answers = store().events(run_id, StrategyAnswered)
    return verdict(answers, names_of_classes(scenario)) if len(answers) == len(STRATEGIES) else ""


def laid_open(run_id: str, scenario: Scenario, busy: bool) -> None:
    """Steps 1 and 2: the private batch, from its update to labels, and every strategy's answer so far.

    Draws the whole page anew when a run that was `busy` is over.
    """
    give_way()
    record = store().run(run_id)
    if busy and not record.under_way:
        st.rerun()
    names = names_of_classes(scenario)
    read = store().latest(run_id, LastLayerRead)
    answers = [a for a in store().events(run_id, StrategyAnswered) if isinstance(a, StrategyAnswered)]
    answers = answers[-len(STRATEGIES) :]  # of the last attempt, should a worker have been lost
    pictures = f'<div class="dl-small">{live.client(scenario, suspense=False)}</div>'
    if not isinstance(read, LastLayerRead) or not answers:
        words = label_markup.waiting(_words(record))
        return st.html(markup.titled(1, "From update to labels", pictures, words))
    shown = label_markup.columns(read, answers)
    awaited = _words(record) if record.under_way else ""
    return st.html(
        markup.titled(1, "From update to labels", pictures, label_markup.steps(read, names, shown, answers))
        + markup.titled(2, "Every strategy, same update", label_markup.matrix(answers, names, shown, awaited=awaited))
    )


def _words(record: RunRecord) -> str:
    """What an answer waits for."""
    if record.status == "queued":
        return "Waiting for a free worker: attacks go first."
    if record.message:
        return record.message
    download = store().latest(record.id, Downloading)
    if isinstance(download, Downloading) and not store().latest(record.id, LastLayerRead):
        return f"Downloading {download.dataset}: {download.bytes_done / 1e6:.0f} MB"
    if not record.under_way:
        return "There is no answer."
    since = time.time() - (record.started or time.time())
    return f"At work for {since:.0f} s; a proof may take {patience(record.scenario.batch_size):.0f} s."
