"""Recordings: what is kept of a run, and archives from friends and from strangers."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepleak_core.errors import UnusableRecording
from deepleak_core.events import (
    Event,
    Finished,
    GroundTruthKnown,
    LabelsInferred,
    LabelsRevised,
    Score,
    Snapshot,
    from_png,
)
from deepleak_core.runs.recording import (
    RecordedRun,
    Recording,
    evenly,
    gallery,
    gallery_recording,
    load,
    recorded,
    recorded_from,
    save,
    single,
    split,
    strips,
)
from deepleak_core.runs.run import run
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from deepleak_core.version import VERSION

SCENARIO = Scenario(indices=(0, 1, 3, 4), model="lenet", max_iterations=20)


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return list(run(SCENARIO))


@pytest.fixture(scope="module")
def short(events: list[Event]) -> RecordedRun:
    return recorded(SCENARIO, events)


@pytest.fixture(scope="module")
def archive(short: RecordedRun) -> bytes:
    return save(sequence(short, short))


def sequence(*runs: RecordedRun) -> Recording:
    return Recording(name="two-runs", title="Two runs", sentence="The same twice.", page="live", runs=runs)


def snapshot(seconds: float, labels: tuple[int, ...], places: tuple[int, ...], shades: tuple[float, ...]) -> Snapshot:
    """A moment whose images are flat, each in its own shade."""
    images = np.stack([np.full((3, 32, 32), shade, np.float32) for shade in shades])
    return Snapshot(
        step=int(seconds * 10), seconds=seconds, loss=0.0, residual=1.0, labels=labels, progress=None, images=images,
        score=Score(places=places, psnr=tuple(10.0 for _ in labels)),
    )  # fmt: skip


def with_snapshots(events: list[Event], *snapshots: Snapshot) -> list[Event]:
    others = [event for event in events if not isinstance(event, Snapshot)]
    return [*others[:-1], *snapshots, others[-1]]


def shades(run: RecordedRun, place: int) -> list[float]:
    return [round(float(from_png(p).mean()), 1) for p in split(run.frames[place].pictures, run.frames[place].count)]


# ------------------------------------------------------------------------------------------------- what is kept


def test_a_recording_keeps_the_events_and_the_end(events: list[Event], short: RecordedRun) -> None:
    last = [event for event in events if isinstance(event, Snapshot)][-1]
    assert (short.scenario, short.version, short.finished) == (SCENARIO, VERSION, events[-1])
    assert short.device == short.prepared.device
    assert short.frames[-1].seconds == last.seconds
    assert last.score is not None
    assert short.frames[-1].psnr == last.score.psnr
    places = last.score.places
    assert split(short.frames[-1].pictures, 4) == split(
        strips.strip((last.images[list(places)] * 255).round().astype(np.uint8), lossless=True), 4
    )


def test_pictures_keep_their_place_though_the_best_match_changes(events: list[Event]) -> None:
    labels = (0, 3, 6, 8)
    first = snapshot(0.0, labels, (0, 1, 2, 3), (0.1, 0.2, 0.3, 0.4))
    last = snapshot(1.0, labels, (3, 2, 1, 0), (0.1, 0.2, 0.3, 0.4))
    frames = recorded(SCENARIO, with_snapshots(events, first, last))
    assert shades(frames, 0) == shades(frames, 1) == [0.4, 0.3, 0.2, 0.1]
    assert [frame.labels for frame in frames.frames] == [(8, 6, 3, 0)] * 2


def test_images_of_other_labels_keep_an_order_of_their_own(events: list[Event]) -> None:
    before = snapshot(0.0, (0, 3, 4, 6), (0, 1, 2, 3), (0.1, 0.2, 0.3, 0.4))
    after = snapshot(1.0, (0, 3, 6, 8), (0, 1, 3, 2), (0.1, 0.2, 0.4, 0.3))
    frames = recorded(SCENARIO, with_snapshots(events, before, after)).frames
    assert [frame.labels for frame in frames] == [(0, 3, 4, 6), (0, 3, 8, 6)]


def test_psnr_follows_the_fixed_order(events: list[Event]) -> None:
    truth = next(event for event in events if isinstance(event, GroundTruthKnown))
    private = np.stack([from_png(picture) for picture in truth.pictures])
    labels = (0, 3, 6, 8)
    first = replace(snapshot(0.0, labels, (1, 0, 2, 3), (0.0,) * 4), images=private)
    last = replace(snapshot(1.0, labels, (0, 1, 2, 3), (0.0,) * 4), images=private)
    assert recorded(SCENARIO, with_snapshots(events, first, last)).frames[0].psnr == (120.0,) * 4


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=200).map(sorted), st.integers(2, 60))
def test_few_moments_are_spread_from_the_first_to_the_last(seconds: list[float], most: int) -> None:
    places = evenly(seconds, most)
    assert places == sorted(set(places))
    assert len(places) <= most
    assert (places[0], places[-1]) == (0, len(seconds) - 1)


def test_a_long_run_is_thinned(events: list[Event]) -> None:
    moments = [snapshot(float(i), (0, 3, 6, 8), (0, 1, 2, 3), (0.1, 0.2, 0.3, 0.4)) for i in range(500)]
    frames = recorded(SCENARIO, with_snapshots(events, *moments), most_frames=10).frames
    assert len(frames) <= 10
    assert (frames[0].seconds, frames[-1].seconds) == (0.0, 499.0)


def test_of_a_repeated_run_the_last_attempt_counts(events: list[Event], short: RecordedRun) -> None:
    assert recorded(SCENARIO, [*events[:-2], *events]) == short


def test_a_run_without_a_picture_is_refused(events: list[Event]) -> None:
    with pytest.raises(UnusableRecording):
        recorded(SCENARIO, with_snapshots(events))
    with pytest.raises(UnusableRecording):
        recorded(SCENARIO, events[:-1])


def test_a_stored_run_gives_the_same_recording(tmp_path: Path, events: list[Event], short: RecordedRun) -> None:
    store = Store(f"sqlite:///{tmp_path / 'runs.sqlite'}")
    run_id = store.create(SCENARIO, owner=this_process())
    store.start(run_id)
    store.append(run_id, events)
    store.finish(run_id, "finished")
    assert recorded_from(store, run_id) == short
    with pytest.raises(UnusableRecording):
        recorded_from(store, "none")


def test_a_run_without_a_ground_truth_is_recorded_in_the_attackers_order(events: list[Event]) -> None:
    scored = (LabelsInferred, LabelsRevised, Snapshot, Finished)
    plain = [replace(event, score=None) if isinstance(event, scored) else event for event in events]
    unscored = recorded(SCENARIO, [event for event in plain if not isinstance(event, GroundTruthKnown)])
    assert unscored.truth is None
    assert unscored.frames[-1].psnr == ()
    assert unscored.frames[-1].labels == (0, 3, 6, 8)
    assert load(save(sequence(unscored))).runs == (unscored,)


# ------------------------------------------------------------------------------------------------------ archives


def test_an_archive_gives_the_same_recording(tmp_path: Path, short: RecordedRun, archive: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(archive)
    assert load(archive) == load(tmp_path / "a.zip") == sequence(short, short)
    assert save(load(archive)) == archive


def test_a_single_run_is_an_archive_of_its_own(short: RecordedRun) -> None:
    assert load(save(single(short))).runs == (short,)
    wordy = replace(short, finished=replace(short.finished, sentence="x" * 1900))
    assert load(save(single(wordy))).runs == (wordy,)
    silent = replace(short, finished=replace(short.finished, sentence=""))
    assert load(save(single(silent))).sentence


def test_infinite_numbers_survive(short: RecordedRun) -> None:
    diverged = replace(short, finished=replace(short.finished, residual=float("inf")))
    assert load(save(sequence(diverged))).runs[0].finished.residual == float("inf")


def test_an_archive_does_not_name_folders_of_its_machine(short: RecordedRun) -> None:
    own = replace(short, scenario=SCENARIO.changed(images="/home/somebody/photos"))
    assert b"somebody" not in save(sequence(own))
    assert load(save(sequence(own))).runs[0].scenario.images == "photos"


def rewritten(archive: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive with other entries."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        entries = {name: opened.read(name) for name in opened.namelist()}
    change(entries)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as closed:
        for name, data in entries.items():
            closed.writestr(name, data)
    return buffer.getvalue()


def described(archive: bytes, change: Callable[[Any], None]) -> bytes:
    """The archive with other values in run.json."""

    def edit(entries: dict[str, bytes]) -> None:
        values = json.loads(entries["run.json"])
        change(values)
        entries["run.json"] = json.dumps(values).encode()

    return rewritten(archive, edit)


def webp(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "WEBP")
    return buffer.getvalue()


ENTRIES: dict[str, Callable[[dict[str, bytes]], Any]] = {
    "path that leaves the archive": lambda e: e.update({"../evil.webp": b"x"}),
    "absolute path": lambda e: e.update({"/etc/passwd": b"x"}),
    "foreign entry": lambda e: e.update({"frames/0/0000.exe": b"x"}),
    "no run.json": lambda e: e.pop("run.json"),
    "run.json that is no JSON": lambda e: e.update({"run.json": b"\xff\xfe"}),
    "run.json nested deeply": lambda e: e.update({"run.json": b"[" * 100_000}),
    "run.json that is a list": lambda e: e.update({"run.json": b"[]"}),
    "bomb": lambda e: e.update({"run.json": b" " * (100 * 2**20)}),
    "many entries": lambda e: e.update({f"frames/{i % 10}/{i:04d}.webp": b"" for i in range(2500)}),
    "bombs that are small each": lambda e: e.update({f"frames/9/{i:04d}.webp": bytes(10 * 2**20) for i in range(8)}),
    "missing frame": lambda e: e.pop("frames/0/0000.webp"),
    "missing private image": lambda e: e.pop("private/0/0003.png"),
    "frame that is no picture": lambda e: e.update({"frames/1/0000.webp": b"RIFF"}),
    "frame of another size": lambda e: e.update({"frames/1/0000.webp": webp(4000, 400)}),
    "frame of another format": lambda e: e.update({"frames/1/0000.webp": e["private/0/0000.png"]}),
    "private image of another size": lambda e: e.update({"private/0/0000.png": webp(32, 32)}),
}
VALUES: dict[str, Callable[[Any], Any]] = {
    "another format": lambda v: v.update(format="zip"),
    "a later version": lambda v: v.update(format_version=2),
    "no version": lambda v: v.pop("format_version"),
    "no runs": lambda v: v.update(runs=[]),
    "many runs": lambda v: v.update(runs=v["runs"] * 10),
    "runs that are numbers": lambda v: v.update(runs=[1]),
    "a name that is a path": lambda v: v.update(name="../x"),
    "an unknown page": lambda v: v.update(page="admin"),
    "a long title": lambda v: v.update(title="x" * 1000),
    "no frames": lambda v: v["runs"][0].update(frames=[]),
    "frames that are texts": lambda v: v["runs"][0].update(frames=["x"]),
    "no end": lambda v: v["runs"][0].pop("finished"),
    "an unknown reason": lambda v: v["runs"][0]["finished"].update(reason="bored"),
    "a scenario that is none": lambda v: v["runs"][0]["scenario"].update(batch_size=-1),
    "a text for a number": lambda v: v["runs"][0]["frames"][0].update(seconds="soon"),
    "times that fall": lambda v: v["runs"][0]["frames"][0].update(seconds=1e9),
    "endless time": lambda v: v["runs"][0]["frames"][-1].update(seconds="inf"),
    "a class that there is not": lambda v: v["runs"][0]["frames"][0].update(labels=[0, 3, 6, 99]),
    "another batch size": lambda v: v["runs"][0]["frames"][0].update(labels=[0, 3]),
    "too few values": lambda v: v["runs"][0]["frames"][0].update(psnr=[1.0]),
    "too few scores": lambda v: v["runs"][0]["finished"]["score"].update(ssim=[]),
    "too few counts": lambda v: v["runs"][0]["inferred"].update(counts=[1]),
    "too few layers": lambda v: v["runs"][0]["shared"].update(layers=[]),
    "a long class name": lambda v: v["runs"][0]["prepared"]["class_names"].__setitem__(0, "x" * 5000),
}


@pytest.mark.parametrize("change", ENTRIES.values(), ids=ENTRIES)
def test_an_archive_with_other_entries_is_refused_in_one_sentence(archive: bytes, change: Callable[..., Any]) -> None:
    with pytest.raises(UnusableRecording, match=r"^[^\n]{1,300}\.$"):
        load(rewritten(archive, change))


@pytest.mark.parametrize("change", VALUES.values(), ids=VALUES)
def test_an_archive_with_other_values_is_refused_in_one_sentence(archive: bytes, change: Callable[..., Any]) -> None:
    with pytest.raises(UnusableRecording, match=r"^[^\n]{1,300}\.$"):
        load(described(archive, change))


def test_an_archive_of_half_a_million_entries_is_refused_before_they_are_read() -> None:
    count = 500_000
    entries = (b"PK\x01\x02" + bytes(42)) * count
    data = entries + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(entries), 0, 0)
    tracemalloc.start()
    with pytest.raises(UnusableRecording, match="entries"):
        load(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20


def test_other_files_are_refused(tmp_path: Path, archive: bytes) -> None:
    for data in (b"", b"PK", b"not a zip", archive[: len(archive) // 2], bytes(40 * 2**20)):
        with pytest.raises(UnusableRecording):
            load(data)
    for path in (tmp_path, tmp_path / "missing.zip"):
        with pytest.raises(UnusableRecording):
            load(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_archives_are_refused_or_equal(archive: bytes, data: st.DataObject) -> None:
    """Whatever bytes change, the answer is a recording or a sentence."""
    broken = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UnusableRecording):
        assert load(bytes(broken)).runs


# ------------------------------------------------------------------------------------------------------- gallery


def test_the_gallery_lists_heads_and_leaves_out_what_it_cannot_read(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "02-second.zip").write_bytes(archive)
    (tmp_path / "01-first.zip").write_bytes(archive)
    (tmp_path / "03-broken.zip").write_bytes(archive[:1000])
    heads = gallery(tmp_path)
    assert [head.name for head in heads] == ["first", "second"]
    assert heads[0].scenario == SCENARIO
    assert [len(run.pictures) for run in heads[0].runs] == [4, 4]
    assert (heads[0].size, heads[0].pictures) == (len(archive), heads[0].runs[0].pictures)
    assert gallery_recording("second", tmp_path) == load(archive)
    with pytest.raises(UnusableRecording, match="first, second"):
        gallery_recording("third", tmp_path)


def test_a_head_gives_the_pictures_of_the_run_that_is_asked_for(tmp_path: Path, short: RecordedRun) -> None:
    wrong = replace(short, scenario=SCENARIO.changed(mislabel=("cat>dog",)), frames=short.frames[:1])
    (tmp_path / "two.zip").write_bytes(save(sequence(short, wrong)))
    (head,) = gallery(tmp_path)
    right, spoiled = (run.pictures for run in head.runs)
    assert right != spoiled
    assert (head.pictures_of(SCENARIO), head.pictures_of(wrong.scenario)) == (right, spoiled)
    assert head.pictures_of(SCENARIO.changed(stage="late")) == ()


def test_runs_that_play_side_by_side_take_as_long_as_the_longest(tmp_path: Path, short: RecordedRun) -> None:
    longer = replace(short, finished=replace(short.finished, seconds=short.finished.seconds + 2))
    (tmp_path / "two.zip").write_bytes(save(sequence(short, longer, short)))
    (head,) = gallery(tmp_path)
    assert head.seconds == longer.finished.seconds


def test_recordings_are_read_without_pytorch_and_without_the_store() -> None:
    code = (
        "import sys, deepleak_core.runs.recording; print({'torch', 'dask', 'sqlalchemy', 'scipy'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"
