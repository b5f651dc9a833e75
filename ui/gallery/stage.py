"""A recording in the player, and how it was made. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deepleak_core.runs.recording import RecordedRun, Recording
from deepleak_core.scenario import Scenario
from ui import server_view
from ui.live.stage import KEEPS, REBUILDS, SHARES, SLIM, WIDE
from ui.means import true_means
from ui.player import Column, Note, Still, Track, play
from ui.player.parts import Asides
from ui.rendering import render

ATTACKS = {"gradinversion": "GradInversion", "general-deep-leakage": "General Deep Leakage", "exact": "Exact"}


def stage(recording: Recording) -> None:
    """The recording, playing."""
    play(columns(recording), key="gallery-stage", autoplay=True)


def details(recording: Recording) -> None:
    """The outcome of each run, and on what machine and with which version it was recorded."""
    runs = [(title(recording, run), run) for run in recording.runs]
    st.html(render("made.html", runs=runs))


def columns(recording: Recording) -> list[Column]:
    """The private images, once where all runs share them, and each run as a track."""
    drawn: list[Column] = []
    names = _names(recording)
    shown: Sequence[bytes] = ()
    for run, name in zip(recording.runs, names, strict=True):
        if run.truth is not None and run.truth.pictures != shown:
            shown = run.truth.pictures
            labels = tuple(run.prepared.class_names[label] for label in run.truth.labels)
            drawn.append(Still(title=KEEPS, pictures=run.truth.pictures, captions=labels, weight=WIDE))
        if recording.page == "live" and run.shared is not None:
            drawn.append(Note(title=SHARES, html=server_view.shared(run.shared), weight=SLIM))
        drawn.append(_track(recording, run, name))
        if recording.page == "fusion" and run.separated is None and not _apart(run) and run.truth is not None:
            drawn.extend(true_means(run.truth.labels, run.truth, run.prepared.class_names))
    return drawn


def _names(recording: Recording) -> list[str]:
    """The titles of the runs, made different where two are the same."""
    titles = [title(recording, run) for run in recording.runs]
    return [name if titles.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(titles)]


def _track(recording: Recording, run: RecordedRun, name: str) -> Track:
    labels = run.frames[-1].labels
    fused = recording.page == "fusion" and run.separated is None and len(set(labels)) < len(labels)
    asides: Asides = "to_mean" if fused else "none"
    return Track(
        title=name, name=name, run=run, asides=asides, average=recording.page == "fusion" and _apart(run),
        gauge=recording.page == "wrong-label", weight=WIDE,
    )  # fmt: skip


def title(recording: Recording, run: RecordedRun) -> str:
    """What a run is, in the words of its page."""
    if recording.page == "wrong-label":
        return _labels_in_words(run.scenario)
    if recording.page == "fusion":
        return _fusion_in_words(run)
    if recording.page == "gradinversion":
        return ATTACKS.get(run.scenario.attack, run.scenario.attack)
    return REBUILDS


def _labels_in_words(scenario: Scenario) -> str:
    if not scenario.wrong_labels and not scenario.mislabel:
        return "All correct"
    if scenario.repair_labels:
        return "Corrected"
    return "One wrong" if (scenario.wrong_labels or len(scenario.mislabel or ())) == 1 else "Several wrong"


def _fusion_in_words(run: RecordedRun) -> str:
    if run.separated is not None:
        return "Separated"
    if _apart(run):
        return "Started apart"
    labels = run.truth.labels if run.truth else run.frames[-1].labels
    return "All different" if len(set(labels)) == len(labels) else "Same label: a blend"


def _apart(run: RecordedRun) -> bool:
    """Whether images that share a label started from points of their own."""
    return "start=independent" in (run.scenario.setting or ())
