"""Columns that a recording is played in."""

from __future__ import annotations

from dataclasses import replace

from deepleak_core.runs.recording import RecordedRun, Recording
from ui.gallery.stage import columns
from ui.player import Note, Still, Track


def recording(page: str, *runs: RecordedRun) -> Recording:
    return Recording(name="test", title="Test", sentence="A test.", page=page, runs=runs)  # type: ignore[arg-type]


def tracks(shown: Recording) -> list[Track]:
    return [column for column in columns(shown) if isinstance(column, Track)]


def test_runs_of_one_batch_stand_beside_its_images(recorded_run: RecordedRun) -> None:
    wrong = replace(recorded_run, scenario=recorded_run.scenario.changed(mislabel=("cat>dog",)))
    repaired = replace(wrong, scenario=wrong.scenario.changed(repair_labels=True))
    private, *attacked = columns(recording("wrong-label", recorded_run, wrong, repaired))
    assert isinstance(private, Still)
    assert private.captions == ("cat", "frog")
    assert [track.run for track in attacked if isinstance(track, Track)] == [recorded_run, wrong, repaired]
    assert all(isinstance(track, Track) and track.gauge for track in attacked)


def test_another_batch_has_its_own_images(recorded_run: RecordedRun) -> None:
    assert recorded_run.truth is not None
    other = replace(recorded_run, truth=replace(recorded_run.truth, pictures=recorded_run.truth.pictures[::-1]))
    kinds = [type(column) for column in columns(recording("fusion", recorded_run, other))]
    assert kinds == [Still, Track, Still, Track]


def test_a_blend_stands_beside_its_mean_and_results_that_started_apart_can_be_averaged(
    recorded_run: RecordedRun,
) -> None:
    assert recorded_run.truth is not None
    frame = replace(recorded_run.frames[-1], labels=(6, 6))
    same = replace(recorded_run, truth=replace(recorded_run.truth, labels=(6, 6)), frames=(frame,))
    apart = replace(same, scenario=same.scenario.changed(setting=("start=independent",)))
    drawn = columns(recording("fusion", same, apart))
    assert [type(column) for column in drawn] == [Still, Track, Still, Track]
    assert [track.average for track in drawn if isinstance(track, Track)] == [False, True]


def test_tracks_have_names_of_their_own(recorded_run: RecordedRun) -> None:
    names = [track.name for track in tracks(recording("gradinversion", recorded_run, recorded_run))]
    assert len(set(names)) == 2


def test_without_a_ground_truth_there_are_no_private_images(recorded_run: RecordedRun) -> None:
    kinds = [type(column) for column in columns(recording("live", replace(recorded_run, truth=None)))]
    assert kinds == [Note, Track]
