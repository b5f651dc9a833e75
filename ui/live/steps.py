"""The three steps of a run: what the client keeps, what the server sees, what the attacker rebuilds.

While a run is under way three fragments repeat: the pictures several times a second, the rest once or less. Each reads
one row of the store and fetches the newest snapshot as stored PNG bytes. At the end the whole page is drawn once more,
and nothing repeats any longer.
"""

from __future__ import annotations

import math

import streamlit as st
from markupsafe import Markup

from deepleak_core.errors import DeepLeakError
from deepleak_core.events import FeaturesSeparated
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from ui import live_charts, pictures, pieces, records, server_view
from ui.address import WELCOME
from ui.backend import give_way, pace, store
from ui.live import downloads
from ui.live.view import View
from ui.records import Frame
from ui.rendering import NOTHING

KEEPS, SEES, REBUILDS = "What the client keeps", "What the server sees", "What the attacker rebuilds"
PICTURE_SECONDS, READING_SECONDS, CURVE_SECONDS = 0.22, 1.0, 3.0  # between repetitions
STOPS = 500  # snapshots of a long run that the replay offers


# ------------------------------------------------------------------------------------ what the attacker rebuilds


def attacker(view: View) -> None:
    """Step 3: placeholders before a run, its pictures while it goes on, any of its moments afterwards."""
    if view.record is None:
        count = (view.scenario or WELCOME).batch_size
        waiting = pieces.progress(0, "Press Run the attack")
        st.html(pieces.step(3, REBUILDS, waiting, pictures.nothing_rebuilt(count)))
    elif view.under_way:
        slowed = pace()
        watch = st.fragment(_watch, run_every=PICTURE_SECONDS * slowed)
        watch(view.record.id, view.record.attempt, view.hidden, slowed)
    else:
        st.fragment(_replay)(view.record.id)
        if view.finished is not None:
            downloads.draw(view.record, view.finished)
        if len(stages := records.stages_of(view.record.id)) > 1:
            st.html(server_view.stages(stages))


def _watch(run_id: str, attempt: int, hidden: bool, slowed: int) -> None:
    """Draws the whole page anew when the run is over, was started again, or the number of viewers has changed."""
    give_way()
    record = store().run(run_id)
    if record is None or not record.under_way or record.attempt > max(1, attempt) or pace() != slowed:
        st.rerun()
    state, key = st.session_state, (run_id, record.snapshots, hidden)
    if state.get("frame", (None,))[0] != key or not record.snapshots:
        state.frame = key, _moment(record, hidden)
    st.html(state.frame[1])


def _moment(record: RunRecord, hidden: bool) -> Markup:
    """The newest pictures of a run under way, or why there are none yet."""
    frame = records.frame_of(record)
    if frame is None:
        waiting = pieces.progress(*records.why_waiting(record))
        return pieces.step(3, REBUILDS, waiting, pictures.nothing_rebuilt(record.scenario.batch_size))
    moment, stages = frame.moment, records.stages_of(record.id)
    about = f" of about {moment.seconds / moment.progress:.0f} s" if moment.progress else ""
    residual = pieces.not_matched(moment.residual)
    quality = residual if frame.score is None else f"{frame.score.mean_psnr:.1f} dB on average"
    return pieces.step(
        3,
        REBUILDS,
        pieces.progress(
            moment.progress,
            f"{moment.seconds:.1f} s{about}",
            f"iteration {moment.step}, {quality}",
            hint=f"{residual}, {pieces.residual_hint(record.scenario.mode)}",
        ),
        _grid(frame, hidden=hidden),
        pieces.note(stages[-1].sentence if stages else ""),
    )


def _replay(run_id: str) -> None:
    record, moments = store().run(run_id), records.moments_of(run_id)
    if record is None or not moments:
        count = record.scenario.batch_size if record else 0
        st.html(pieces.step(3, REBUILDS, pieces.progress(0, ""), pictures.nothing_rebuilt(count)))
        return
    with st.container(gap=None):
        st.html(pieces.step(3, REBUILDS))
        n = last = len(moments) - 1
        if last > 0:
            offered = [*range(0, last, math.ceil(last / STOPS)), last]
            n = st.select_slider(
                "Replay", offered, value=last, key=f"moment-{run_id}", label_visibility="collapsed",
                format_func=lambda n: f"{moments[n].seconds:.1f} s, picture {n + 1} of {last + 1}",
            )  # fmt: skip
        if (frame := records.frame_of(record, n)) is not None:
            st.html(_grid(frame, hidden=False))


def _grid(frame: Frame, *, hidden: bool) -> Markup:
    return pictures.rebuilt(frame.pictures, frame.titles, frame.psnr, () if hidden else frame.wrong, frame.outcomes)


# -------------------------------------------------------------------------- what the client keeps, the server sees


def client_and_server(view: View) -> None:
    """Steps 1 and 2."""
    if view.record is None:
        kept = _private(view.scenario, hidden=view.hidden) if view.scenario else NOTHING
        st.html(pieces.step(1, KEEPS, kept) + pieces.step(2, SEES, server_view.nothing_shared()))
    else:
        every = READING_SECONDS * pace() if view.under_way else None
        st.fragment(_client_and_server, run_every=every)(view.record.id, view.hidden)


def _client_and_server(run_id: str, hidden: bool) -> None:
    give_way()
    record = store().run(run_id)
    if record is None:
        return
    facts = records.facts_of(record)
    if facts.truth is not None and not hidden:
        kept = pictures.thumbnails(facts.truth.pictures, facts.names(facts.truth.labels))
    else:
        kept = _private(record.scenario, hidden=hidden)
    st.html(pieces.step(1, KEEPS, kept) + _separated(record) + pieces.step(2, SEES, _seen(record, hidden)))


def _private(scenario: Scenario, *, hidden: bool) -> Markup:
    """The private images, or placeholders that hide them, or why they cannot be shown yet."""
    if hidden:
        return pictures.hidden(scenario.batch_size)
    try:
        return pictures.thumbnails(*records.private_batch(scenario))
    except DeepLeakError as error:
        return pieces.note(str(error))


def _seen(record: RunRecord, hidden: bool) -> Markup:
    """The update and the labels inferred from it."""
    facts = records.facts_of(record)
    if facts.prepared is None or facts.shared is None or facts.inferred is None:
        return server_view.nothing_shared()
    true_counts = None if hidden else records.true_counts_of(facts)
    used = records.labels_used(record)
    seen = server_view.update(facts.shared) + server_view.labels(
        facts.inferred, used, facts.prepared.class_names, true_counts=true_counts
    )
    if record.scenario.stage != "untrained":
        seen = pieces.note(f"{facts.prepared.model_title}, {facts.prepared.stage_note}") + seen
    return seen


def _separated(record: RunRecord) -> Markup:
    """Similarities of the separated features, for attacks whose first result they are."""
    features, prepared = store().latest(record.id, FeaturesSeparated), records.facts_of(record).prepared
    if features is None or prepared is None or record.scenario.attack != "exact":
        return NOTHING
    return server_view.separated(features, prepared.class_names)


def curves(view: View) -> None:
    """The curves of the run so far, empty ones without a run."""
    every = CURVE_SECONDS * pace() if view.under_way else None
    st.fragment(_curves, run_every=every)(view.record.id if view.record else None)


def _curves(run_id: str | None) -> None:
    give_way()
    record = store().run(run_id) if run_id else None
    facts = records.facts_of(record) if record else records.Facts()
    titles = facts.names(facts.truth.labels) if facts.truth else []
    live_charts.run_curves(records.moments_of(record.id) if record else [], titles)
