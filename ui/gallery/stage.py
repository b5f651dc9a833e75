"""A recording in the player, and how it was made. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from deepleak_core.runs.recording import RecordedRun, Recording
from deepleak_core.text import split_list
from ui.player import Column, Still, Track, play
from ui.player.parts import Asides
from ui.rendering import render

ATTACKS = {"gradinversion": "GradInversion", "general-deep-leakage": "General Deep Leakage", "exact": "Exact"}

HEIGHT = "max(24rem, calc(100dvh - 15rem))"  # leaves the row of the next recordings in sight


def stage(recording: Recording) -> None:
    """The recording, playing; a height of its own leaves the line of the next recordings in sight."""
    play(columns(recording), key="gallery-stage", autoplay=True, height="max(24rem, calc(100dvh - 15rem))")


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
            drawn.append(Still(title="Stays on the device", pictures=run.truth.pictures, captions=labels, weight=2))
        drawn.append(_track(recording, run, name, names[0]))
    return drawn


def _names(recording: Recording) -> list[str]:
    """The titles of the runs, made different where two are the same."""
    titles = [title(recording, run) for run in recording.runs]
    return [name if titles.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(titles)]


def _track(recording: Recording, run: RecordedRun, name: str, first: str) -> Track:
    asides: Asides = "none"
    if recording.page == "fusion" and len(set(run.frames[-1].labels)) < len(run.frames[-1].labels):
        asides = "to_mean"
    elif recording.page == "wrong-label" and name != first:
        asides = "change"
    return Track(
        title=name, name=name, run=run, asides=asides, against=first if asides == "change" else "",
        gauge=recording.page == "wrong-label", weight=3,
    )  # fmt: skip


def title(recording: Recording, run: RecordedRun) -> str:
    """What a run is, in the words of its page."""
    if recording.page == "wrong-label":
        return _labels_in_words(run)
    if recording.page == "fusion":
        return _fusion_in_words(run)
    if recording.page == "gradinversion":
        return ATTACKS.get(run.scenario.attack, run.scenario.attack)
    return "The server rebuilds"


def _labels_in_words(run: RecordedRun) -> str:
    scenario = run.scenario
    if not scenario.wrong_labels and not scenario.mislabel:
        return "All labels correct"
    if scenario.repair_labels:
        return "Corrected by the attacker"
    if scenario.mislabel:
        return "Wrong: " + ", ".join(" labelled as ".join(split_list(swap, ">")) for swap in scenario.mislabel)
    return f"{scenario.wrong_labels} label{'s' if scenario.wrong_labels > 1 else ''} wrong"


def _fusion_in_words(run: RecordedRun) -> str:
    if run.separated is not None:
        return "Separated"
    labels = run.truth.labels if run.truth else run.frames[-1].labels
    return "All different" if len(set(labels)) == len(labels) else "Same label: a blend"
