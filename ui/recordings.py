"""The recordings that come with the app, read once for all visitors and again where a file has changed.

Needs no PyTorch.
"""

from __future__ import annotations

import streamlit as st

from deepleak_core.runs.recording import GALLERY, Head, Recording, gallery, gallery_recording

Files = tuple[tuple[str, int], ...]  # paths, and when each was changed


def heads() -> tuple[Head, ...]:
    """What lists show of each."""
    return _heads(_files())


def recording(name: str) -> Recording:
    """The recording of that name. Raises `UnusableRecording` where there is none."""
    return _recording(name, _files())


def _files() -> Files:
    return tuple((str(path), path.stat().st_mtime_ns) for path in sorted(GALLERY.glob("*.zip")))


@st.cache_resource(max_entries=1, show_spinner=False)
def _heads(files: Files) -> tuple[Head, ...]:
    return gallery(GALLERY)


@st.cache_resource(max_entries=20, show_spinner=False)
def _recording(name: str, files: Files) -> Recording:
    return gallery_recording(name, GALLERY)
