"""A finished run to take away: its pictures as PNG, its figures as JSON, the whole as an archive that plays."""

from __future__ import annotations

import json

import streamlit as st

from deepleak_core.events import Finished
from deepleak_core.runs import export
from deepleak_core.runs.recording import recorded_from, save, single
from deepleak_core.runs.store import RunRecord
from deepleak_core.scoring.sentences import ABOVE_FLAT_DB, RECOGNISABLE_SSIM, RECOVERED_DB, RECOVERED_SSIM
from ui import pieces, records
from ui.backend import store


def draw(record: RunRecord, finished: Finished) -> None:
    """What the numbers mean, and the download buttons; a file is made when its button is pressed."""
    st.html(pieces.note(_scale(finished)))
    with st.container(horizontal=True):
        st.download_button(
            "Pictures (PNG)", lambda: _picture_sheet(record.id), f"deepleak-{record.id}.png", "image/png",
            icon=":material/image:", on_click="ignore", key="pictures",
        )  # fmt: skip
        st.download_button(
            "Figures (JSON)", lambda: _figures(record.id), f"deepleak-{record.id}.json", "application/json",
            icon=":material/data_object:", on_click="ignore", key="figures",
        )  # fmt: skip
        st.download_button(
            "Archive (.zip)", lambda: _archive(record.id), f"deepleak-{record.id}.zip", "application/zip",
            icon=":material/movie:", on_click="ignore", key="archive", help="The gallery of any DeepLeak plays it.",
        )  # fmt: skip


def _scale(finished: Finished) -> str:
    """What a PSNR means for this batch; empty without a ground truth."""
    if (score := finished.score) is None:
        return "No ground truth: PSNR cannot be computed."
    return (
        f"Random noise would score {score.noise_psnr:.0f} dB, a flat grey image {score.grey_psnr:.0f}. Recovered: from "
        f"{RECOVERED_DB:.0f} dB and SSIM {RECOVERED_SSIM:g}. Recognisable: {ABOVE_FLAT_DB:g} dB better than the best "
        f"flat image, and SSIM {RECOGNISABLE_SSIM:g}."
    )


@st.cache_data(max_entries=20, show_spinner=False)
def _picture_sheet(run_id: str) -> bytes:
    """The private and the last reconstructed pictures of a finished run on one PNG."""
    record = store().run(run_id)
    assert record is not None
    facts, frame = records.facts_of(record), records.frame_of(record)
    assert frame is not None
    if facts.truth is None:
        return export.sheet(frame.pictures, frame.pictures, frame.titles)
    names = facts.names(facts.truth.labels)
    captions = [f"{name} {psnr:.1f} dB" for name, psnr in zip(names, frame.psnr, strict=True)]
    return export.sheet(facts.truth.pictures, frame.pictures, captions)


@st.cache_data(max_entries=20, show_spinner=False)
def _figures(run_id: str) -> str:
    """The outcome of a finished run as JSON text."""
    record = store().run(run_id)
    assert record is not None
    return json.dumps(export.summary(record.scenario, store().history(run_id)), indent=1)


@st.cache_data(max_entries=20, show_spinner=False)
def _archive(run_id: str) -> bytes:
    """A finished run as a recording."""
    run = recorded_from(store(), run_id)
    return save(single(run))
