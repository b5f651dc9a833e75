"""What a comparison page plays before anything was started: a recording of the same scenarios, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from deepleak_core.errors import UnusableRecording
from deepleak_core.runs.recording import GALLERY, Recording, gallery, gallery_recording
from deepleak_core.scenario import Scenario

LIMITS = {"max_iterations": None, "max_seconds": None, "device": "auto"}  # may differ: how long, and where, it ran


def recording_for(page: str, scenarios: Sequence[Scenario]) -> Recording | None:
    """The recording in the gallery that begins with these scenarios, None where there is none."""
    return _recording_for(page, tuple(_key(scenario) for scenario in scenarios), GALLERY)


@st.cache_resource(max_entries=20, show_spinner=False)
def _recording_for(page: str, keys: tuple[str, ...], folder: Path) -> Recording | None:
    for head in gallery(folder):
        if head.page != page or not keys or _key(head.scenario) != keys[0]:
            continue
        try:
            recording = gallery_recording(head.name, folder)
        except UnusableRecording:  # gone or damaged since it was listed
            continue
        if tuple(_key(run.scenario) for run in recording.runs[: len(keys)]) == keys:
            return recording
    return None


def _key(scenario: Scenario) -> str:
    return scenario.changed(**LIMITS).to_json()
