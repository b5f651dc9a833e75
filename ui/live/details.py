"""Below the stage: the inferred labels while a run goes on, then whatever there is to look up and to take away.

Imports no PyTorch by itself: what belongs to the first sight is drawn before it is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st
from markupsafe import Markup

from deepleak_core.events import LabelsInferred, LabelsRevised, Prepared
from deepleak_core.runs.recording import RecordedRun
from ui import pieces, server_view, shell
from ui.live.view import View
from ui.rendering import NOTHING, joined

if TYPE_CHECKING:
    from deepleak_core.runs.store import RunRecord

READING_SECONDS = 5.0  # between looks for revised labels; the page is drawn anew when there are any at all
SHARED_SECONDS = 0.5  # for which viewers share what one of them has read


def labels(view: View) -> None:
    """The inferred labels as chips, the numbers behind them on request."""
    if view.record is not None and view.under_way:
        from ui.backend import pace

        shell.fragment(_arriving, run_every=READING_SECONDS * pace())(view.record.id, view.hidden)
    else:
        shell.fragment(_recorded)(view.recording, view.hidden)


def _arriving(run_id: str, hidden: bool) -> None:
    from ui import records
    from ui.backend import give_way

    give_way()
    record = records.glance(run_id)
    st.html(_arrived(run_id, record.attempt, hidden, record) if record else server_view.no_labels())


@st.cache_resource(ttl=SHARED_SECONDS, max_entries=100, show_spinner=False)
def _arrived(run_id: str, attempt: int, hidden: bool, _record: RunRecord) -> Markup:
    """The labels of a run as they were at most `SHARED_SECONDS` ago, for all viewers."""
    from ui import records
    from ui.backend import store

    facts = records.facts_of(_record)
    revised = store().latest(run_id, LabelsRevised) if facts.inferred else None
    return _chips(facts.prepared, facts.inferred, revised, hidden=hidden)


def _recorded(run: RecordedRun | None, hidden: bool) -> None:
    if run is None:
        st.html(server_view.no_labels())
        return
    certified = run.finished.certified
    st.html(_chips(run.prepared, run.inferred, run.revised, hidden=hidden, certified_copies=certified))


def _chips(
    prepared: Prepared | None,
    inferred: LabelsInferred | None,
    revised: LabelsRevised | None,
    *,
    hidden: bool,
    certified_copies: bool = False,
) -> Markup:
    if prepared is None or inferred is None:
        return server_view.no_labels()
    used = revised.order if revised else inferred.order
    true_counts = inferred.score.true_counts if inferred.score and not hidden else None
    return server_view.labels(
        inferred, used, prepared.class_names, true_counts=true_counts, certified_copies=certified_copies
    )


def outcome(view: View) -> None:
    """What a finished run did and what can be taken from it."""
    run = view.recording
    if view.record is None or view.under_way or run is None:
        return
    from ui import echarts, records
    from ui.live import downloads

    downloads.draw(view.record, run.finished)
    left, right = st.columns(2, gap="medium")
    with left, st.expander("What the attack did", icon=":material/list:"):
        st.html(joined([_network(run), server_view.stages(run.stages), _separated(run)]))
    with right, st.expander("PSNR of each image, and the residual", icon=":material/show_chart:"):
        names = run.prepared.class_names
        titles = [names[label] for label in run.truth.labels] if run.truth else []
        moments, baselines = records.moments_of(view.record.id), records.baselines(run.finished.score)
        echarts.run_curves(moments, titles, baselines)


def _network(run: RecordedRun) -> Markup:
    return pieces.note(f"{run.prepared.model_title}, {run.prepared.stage_note}")


def _separated(run: RecordedRun) -> Markup:
    """Similarities of the separated features, for attacks whose first result they are."""
    if run.separated is None or run.scenario.attack != "exact":
        return NOTHING
    return server_view.separated(run.separated, run.prepared.class_names)
