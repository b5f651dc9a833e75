"""What the player sends to the browser, and what it returns."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from markupsafe import Markup
from PIL import Image

from deepleak_core.runs.recording import RecordedRun
from tests.helpers import drawn
from ui.player import LiveFrame, Note, Still, Track, payload, strip


def live_frame(run: RecordedRun) -> LiveFrame:
    frame = run.frames[0]
    return LiveFrame(
        seconds=frame.seconds,
        step=frame.step,
        residual=frame.residual,
        labels=frame.labels,
        captions=("cat", "frog"),
        pictures=frame.pictures,
        psnr=frame.psnr,
        curve=((0.1, 9.0), (0.2, 10.0)),
    )


def still(*columns: Any, **options: Any) -> dict[str, Any]:
    return payload.still(columns, **({"autoplay": False, "loop": False, "height": None} | options))


def test_a_recording_is_sent_once_and_small(recorded_run: RecordedRun) -> None:
    sent = still(Track(title="Server", name="attack", run=recorded_run))
    (track,) = sent["columns"]
    assert len(track["run"]["frames"]) == len(recorded_run.frames)
    assert track["run"]["names"] == {"3": "cat", "6": "frog"}
    assert list(track["run"]["truth"]) == [3, 6]
    assert not track["run"]["private"], "private images are needed for the slider alone"
    assert len(json.dumps(sent)) < 15_000 * len(recorded_run.frames)


def test_moments_keep_their_values(recorded_run: RecordedRun) -> None:
    last = still(Track(title="", name="", run=recorded_run))["columns"][0]["run"]["frames"][-1]
    assert last["psnr"] == pytest.approx(recorded_run.frames[-1].psnr, abs=0.01)
    assert last["mean"] == pytest.approx(sum(recorded_run.frames[-1].psnr) / 2, abs=0.01)


def test_a_running_attack_sends_its_newest_pictures_only(recorded_run: RecordedRun) -> None:
    before, after = (
        Track(title="Server", name="attack", count=2, live=live) for live in (None, live_frame(recorded_run))
    )
    assert still(before) == still(after), "what stays is not sent again"
    live = payload.news([after], "stamp")["tracks"]["0"]["live"]
    assert live["curve"] == [[0.1, 9.0], [0.2, 10.0]]
    assert payload.news([before], "stamp")["tracks"]["0"]["live"] is None


def test_the_stamp_follows_the_content(recorded_run: RecordedRun) -> None:
    track = Track(title="Server", name="attack", count=2)
    assert still(track)["stamp"] == still(track)["stamp"]
    assert still(track)["stamp"] != still(replace(track, run=recorded_run))["stamp"]
    assert payload.news([track], "abc")["stamp"] == "abc"


def test_a_run_without_a_ground_truth_has_a_residual_only(recorded_run: RecordedRun) -> None:
    frames = tuple(replace(frame, psnr=(), psnr_to_mean=()) for frame in recorded_run.frames)
    finished = replace(recorded_run.finished, score=None)
    unknown = replace(recorded_run, truth=None, frames=frames, finished=finished)
    run = still(Track(title="", name="", run=unknown, average=True))["columns"][0]["run"]
    assert run["baseline"] is None
    assert not run["outcomes"]
    assert not run["private"]
    assert {frame["mean"] for frame in run["frames"]} == {None}


def test_curves_are_numbered_among_tracks() -> None:
    columns = still(
        Still(title="", pictures=()),
        Track(title="", name="a"),
        Note(title="", html=Markup()),
        Track(title="", name="b"),
    )["columns"]
    assert [column.get("curve") for column in columns] == [None, 0, None, 1]


def test_pictures_become_one_strip(recorded_run: RecordedRun) -> None:
    assert recorded_run.truth is not None
    pictures = recorded_run.truth.pictures
    with Image.open(io.BytesIO(strip(pictures))) as joined, Image.open(io.BytesIO(pictures[1])) as second:
        assert joined.size == (64, 32)
        assert joined.crop((32, 0, 64, 32)).tobytes() == second.convert("RGB").tobytes()


def test_large_batches_are_cut() -> None:
    column = still(Still(title="", pictures=(b"",) * 70))["columns"][0]
    assert len(column["pictures"]) == 64
    assert column["more"] == 6


def test_a_page_with_a_player_and_cards_runs() -> None:
    def page() -> None:
        from markupsafe import Markup

        from ui.cards import Card, cards
        from ui.player import Note, Still, Track, play

        note = Note(title="Shared", html=Markup("<b>numbers</b>"))
        columns = [Still(title="Client", pictures=(), count=2), note, Track(title="Server", name="attack", count=2)]
        assert cards([Card(id="one", title="One", pictures=())], key="cards", chosen="one") is None
        assert play(columns, key="stage", loop=True) is None

    assert {element.key for element in drawn(page).get("bidi_component")} >= {"cards", "stage"}
