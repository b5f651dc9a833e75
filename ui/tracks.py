"""Tracks of the player from runs of the store: waiting, under way, or recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from deepleak_core.events import GroundTruthKnown
from deepleak_core.runs.recording import RecordedRun
from deepleak_core.runs.store import Moment, RunRecord
from deepleak_core.scoring.pictures import grey_psnr
from ui import records, stream
from ui.player import LiveFrame, Track, strip
from ui.player.parts import Asides

CURVE_POINTS = 150  # moments of a running attack that the timeline draws
NEVER = "Ended before its first picture"


def track(
    title: str,
    record: RunRecord | None,
    *,
    name: str,
    count: int,
    leader: RunRecord | None = None,
    together: bool = True,
    recorded: RecordedRun | None = None,
    asides: Asides = "none",
    against: str = "",
    average: bool = False,
    gauge: bool = False,
    weight: float = 1,
) -> Track:
    """The track of one run, or of one that has not been started where `record` is None, or of a recording.

    `leader` is the first run of its group, which knows what all of them wait for. Pictures of a run under way are
    shown only where `together` says that all runs beside it have some.
    """
    run, live = recorded, None
    if record is not None:
        run = records.recording_of(record)
        live = live_frame(record) if run is None and together else None
    share, waiting = _waiting(record, leader) if record and not run and not live else (0.0, "")
    return Track(
        title=title, name=name, run=run, live=live, count=count, waiting=waiting, waiting_share=share, asides=asides,
        against=against, average=average, gauge=gauge,
        stream=stream.address_of(record) if record else "", weight=weight,
    )  # fmt: skip


def _waiting(record: RunRecord, leader: RunRecord | None) -> tuple[float | None, str]:
    """Why there are no pictures: a share in [0, 1] that is done, None where it is unknown, and words."""
    return records.why_waiting(leader or record) if record.under_way else (0.0, NEVER)


def live_frame(record: RunRecord) -> LiveFrame | None:
    """The newest moment of a run with its curve so far, made once for all viewers; None before its first picture."""
    return _live_frame(record.id, record.attempt, record.events, record)


@st.cache_resource(max_entries=100, show_spinner=False)
def _live_frame(run_id: str, attempt: int, events: int, _record: RunRecord) -> LiveFrame | None:
    record = _record
    frame = records.frame_of(record)
    if frame is None:
        return None
    moment, truth = frame.moment, records.facts_of(record).truth
    score, stages = frame.score, records.stages_of(record.id)
    labels = moment.labels if score is None else tuple(moment.labels[place] for place in score.places)
    return LiveFrame(
        seconds=moment.seconds,
        step=moment.step,
        residual=moment.residual,
        labels=labels,
        captions=frame.titles,
        pictures=strip(frame.pictures),
        wrong=frame.wrong,
        psnr=frame.psnr,
        psnr_to_mean=score.psnr_to_mean if score else (),
        baseline=_grey_psnr(record.id, truth) if truth and score else None,
        curve=curve_of(records.moments_of(record.id)),
        progress=moment.progress,
        sentence=stages[-1].sentence if stages else "",
    )


def curve_of(moments: Sequence[Moment]) -> tuple[tuple[float, float], ...]:
    """Seconds and mean PSNR in dB, or -log10 of the residual without a ground truth; what is finite of them."""
    every = math.ceil(len(moments) / CURVE_POINTS) or 1
    kept = [*moments[:-1:every], *moments[-1:]]
    points = ((m.seconds, m.score.mean_psnr if m.score else -math.log10(max(m.residual, 1e-30))) for m in kept)
    return tuple((seconds, quality) for seconds, quality in points if math.isfinite(quality))


@st.cache_data(max_entries=100, show_spinner=False)
def _grey_psnr(run_id: str, _truth: GroundTruthKnown) -> float:
    return grey_psnr(_truth.pictures)
