"""A page with nothing but a player and cards, for tests in a browser; what it shows is chosen by its address."""

import math
import os
from dataclasses import replace
from pathlib import Path

import streamlit as st
from markupsafe import Markup

from deepleak_core.runs.recording import RecordedFrame, RecordedRun, load
from ui.cards import Card, cards
from ui.player import Column, LiveFrame, Note, Still, Track, play


def live(run: RecordedRun, frame: RecordedFrame) -> LiveFrame:
    return LiveFrame(
        seconds=frame.seconds,
        step=frame.step,
        residual=frame.residual,
        labels=frame.labels,
        captions=tuple(run.prepared.class_names[label] for label in frame.labels),
        pictures=frame.pictures,
        psnr=frame.psnr,
        curve=((frame.seconds, frame.mean_psnr or 0.0),),
        progress=0.5,
        sentence="Under way.",
    )


def diverged(run: RecordedRun) -> RecordedRun:
    """The same without a ground truth, and with residuals that are no numbers from the second frame on."""
    residuals = (run.frames[0].residual, math.inf, *[math.nan] * len(run.frames))
    frames = [replace(frame, psnr=(), residual=r) for frame, r in zip(run.frames, residuals, strict=False)]
    return replace(run, truth=None, frames=tuple(frames), finished=replace(run.finished, score=None, residual=math.nan))


def stretched(run: RecordedRun, seconds: float, psnr: float) -> RecordedRun:
    """The same as if it had taken that long from its first moment on, and had ended at that quality."""
    begin, end = run.frames[0].seconds, run.frames[-1].seconds
    *frames, last = (replace(frame, seconds=seconds * (frame.seconds - begin) / (end - begin)) for frame in run.frames)
    return replace(run, frames=(*frames, replace(last, psnr=(psnr,) * len(last.psnr))))


def opposite(count: int) -> list[Column]:
    """Hidden images and placeholders in columns of unequal widths, with a note between them."""
    kept = Still(title="Client", pictures=(), count=count, weight=5)
    return [
        kept,
        Note(title="Shared", html=Markup("<p>A gradient</p>"), weight=3),
        Track(title="Server", name="attack", count=count, weight=7),
    ]


def columns(query: dict[str, str], distinct: RecordedRun, same: RecordedRun) -> list[Column]:
    if "count" in query:
        return opposite(int(query["count"]))
    run = same if query.get("kind") == "same" else distinct
    if "seconds" in query:
        run = stretched(run, float(query["seconds"]), float(query["psnr"]))
    assert run.truth is not None
    names = run.prepared.class_names
    client = Still(
        title="Client",
        pictures=run.truth.pictures,
        captions=tuple(names[label] for label in run.truth.labels),
        choices=names if query.get("kind") == "menu" else (),
    )
    if query.get("kind") == "under-way":
        step = int(st.session_state.setdefault("step", 0))
        track = Track(title="Server", name="attack", count=2, waiting="Starting" if step == 0 else "")
        if step in (1, 2):
            track = Track(title="Server", name="attack", count=2, live=live(run, run.frames[step]))
        elif step > 2:
            track = Track(title="Server", name="attack", count=2, run=run)
        return [client, track]
    if query.get("kind") == "diverged":
        return [Track(title="Server", name="attack", run=diverged(run), gauge=True)]
    server = Track(title="Server", name="attack", run=run, average=query.get("kind") == "same")
    second = Track(title="Other", name="other", run=same, asides="change", against="attack")
    return [client, server, second] if query.get("kind") == "two" else [client, server]


def forward() -> None:
    st.session_state.step += 1


def main() -> None:
    st.set_page_config(layout="wide")
    st.html(Path("assets/style.css"))
    query = dict(st.query_params)
    recording = load(Path(os.environ["DEEPLEAK_TEST_RECORDING"]))
    click = play(columns(query, *recording.runs), key="stage", autoplay="autoplay" in query, loop="loop" in query)
    st.text_input("Words", key="words")
    st.button("Next", key="next", on_click=forward)
    pictures = recording.runs[0].truth.pictures if recording.runs[0].truth else ()
    picked = cards(
        [Card(id=name, title=name.title(), pictures=pictures) for name in ("one", "two")], key="cards", chosen="one"
    )
    st.text(f"click {click.column} {click.image} {click.choice}" if click else "no click")
    st.text(f"picked {picked}")


if __name__ == "__main__":
    main()
