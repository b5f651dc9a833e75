"""What a visitor can do with a recording: run it live, save it, go back, open one from a file."""

from __future__ import annotations

import streamlit as st

from deepleak_core.runs.recording import Recording, save
from ui.address import query_of
from ui.gallery import choice

PAGES = {
    "live": "pages/live_attack.py",
    "fusion": "pages/same_label_fusion.py",
    "wrong-label": "pages/one_wrong_label.py",
    "gradinversion": "pages/gradinversion.py",
}  # where the runs of a recording are made
MOST_MB = 32


def buttons(recording: Recording) -> None:
    """Back, save, and the same on this machine."""
    st.button("All recordings", icon=":material/grid_view:", key="all", on_click=choice.close)
    st.download_button(
        "Archive", lambda: save(recording), f"deepleak-{recording.name}.zip", "application/zip",
        icon=":material/download:", on_click="ignore", key="archive",
        help="The recording as one file (.zip): the gallery of any DeepLeak opens it.",
    )  # fmt: skip
    scenario = recording.runs[0].scenario
    own = scenario.images is not None
    words = "Its images are in a folder of another machine." if own else "The same attack, on this machine."
    if st.button(
        "Run this live", type="primary", icon=":material/play_arrow:", key="live", disabled=own,
        help=words,
    ):  # fmt: skip
        st.switch_page(PAGES[recording.page], query_params=query_of(scenario))


def open_file() -> None:
    """Open an archive from a file."""
    with st.popover("Open a recording", icon=":material/folder_open:", key="open"):
        st.file_uploader("Archive (.zip)", type="zip", key="file", max_upload_size=MOST_MB, on_change=_take)


def _take() -> None:
    file = st.session_state.file
    if file is not None:
        choice.take(file.getvalue())
