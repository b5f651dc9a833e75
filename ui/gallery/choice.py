"""Which recording a visitor has opened: one of the gallery by its link, or one from a file. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from deepleak_core.errors import UnusableRecording
from deepleak_core.runs.recording import Recording, load
from ui import recordings

LINK = "recording"  # the parameter of the address with the name of a recording
UPLOADED = "uploaded_recording"  # of the session: the recording from a file
REFUSED = "refused_recording"  # of the session: why a file was not opened


@dataclass(frozen=True)
class Opened:
    """What the page shows: the recording, whether it is `shipped` with the app, and what is wrong with the choice."""

    recording: Recording | None = None
    shipped: bool = False
    problem: str = ""


def opened() -> Opened:
    """The recording of the address, or else of the file that was opened last."""
    name = st.query_params.get(LINK)
    if name is None:
        return Opened(st.session_state.get(UPLOADED), problem=st.session_state.get(REFUSED, ""))
    try:
        return Opened(recordings.recording(name), shipped=True)
    except UnusableRecording as error:
        return Opened(problem=str(error))


def show(name: str) -> None:
    """Open a recording of the gallery."""
    close()
    st.query_params[LINK] = name


def close() -> None:
    """Back to the cards."""
    st.query_params.pop(LINK, None)
    for key in (UPLOADED, REFUSED):
        st.session_state.pop(key, None)


def take(data: bytes) -> None:
    """Open an archive from a file, or keep the sentence that says why not."""
    close()
    try:
        st.session_state[UPLOADED] = load(data)
    except UnusableRecording as error:
        st.session_state[REFUSED] = str(error)
