"""The columns of the stage before a run and while it is under way, read from the store."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from deepleak_core.errors import DeepLeakError
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from ui import messages, records, shell
from ui.address import WELCOME
from ui.backend import REDRAW_SECONDS, engine, give_way, pace
from ui.live import stage
from ui.live.view import View
from ui.player import Column, Drawing, Note, Track
from ui.stream import turn_of
from ui.tracks import track


def before(view: View) -> list[Column]:
    """The private images of the scenario, and placeholders for all that a run adds."""
    scenario = view.record.scenario if view.record else view.scenario
    rebuilt = _rebuilt(view.record, scenario or WELCOME, hidden=view.hidden)
    return [*_client(scenario, hidden=view.hidden), stage.shared(None), rebuilt]


def _client(scenario: Scenario | None, *, hidden: bool) -> list[Column]:
    """The private images, or why they cannot be shown yet."""
    if scenario is None:
        return []
    try:
        return [stage.client(*records.private_batch(scenario), hidden=hidden)]
    except DeepLeakError as error:
        return [Note(title=stage.KEEPS, html=messages.note(str(error)), weight=stage.WIDE)]


def draw(record: RunRecord, *, hidden: bool) -> None:
    """Follow a run, as often as the number of viewers allows."""
    slowed = pace()
    watched = shell.fragment(_watch, run_every=REDRAW_SECONDS * slowed)
    watched(record.id, record.attempt, hidden, slowed, _said(record))


def _said(record: RunRecord) -> tuple[bool, tuple[str, ...]]:
    """What the page says of a run outside the stage: whether it has labels, and why it cannot begin."""
    return records.facts_of(record).inferred is not None, records.hindrances(record)


def _watch(run_id: str, attempt: int, hidden: bool, slowed: int, said: tuple[bool, tuple[str, ...]]) -> None:
    """Draws the whole page anew when what it says is outdated.

    The run is over, was started again, has labels now, cannot begin or can again, or the number of viewers has changed.
    """
    give_way()
    record = records.glance(run_id)
    if record is None or not record.under_way or record.attempt > max(1, attempt) or pace() != slowed:
        st.rerun()
    if _said(record) != said:
        st.rerun()
    messages.of_engine(engine())
    stage.show(newest(record, hidden=hidden) if record.snapshots else stage.drawing(_columns(record, hidden=hidden)))


def newest(record: RunRecord, *, hidden: bool) -> Drawing:
    """Pictures of a run under way, read and encoded once for all viewers, and so up to `REDRAW_SECONDS` old.

    Whoever is pushed newer ones goes on with those.
    """
    return _newest(record.id, turn_of(record), hidden, record)


@st.cache_resource(ttl=REDRAW_SECONDS, max_entries=32, show_spinner=False)
def _newest(run_id: str, turn: str, hidden: bool, _record: RunRecord) -> Drawing:
    return stage.drawing(_columns(_record, hidden=hidden))


def _columns(record: RunRecord, *, hidden: bool) -> list[Column]:
    facts = records.facts_of(record)
    if facts.truth is not None:
        names = facts.names(facts.truth.labels)
        kept: list[Column] = [stage.client(facts.truth.pictures, names, hidden=hidden)]
    else:
        kept = [] if record.snapshots else _client(record.scenario, hidden=hidden)
    return [*kept, stage.shared(facts.shared), _rebuilt(record, record.scenario, hidden=hidden)]


def _rebuilt(record: RunRecord | None, scenario: Scenario, *, hidden: bool) -> Track:
    found = track(stage.REBUILDS, record, name=stage.CURVE, count=scenario.batch_size, weight=stage.WIDE)
    return replace(found, hide_wrong=hidden, waiting=found.waiting if record else stage.INVITES)
