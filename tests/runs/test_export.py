"""Export: the values that other tools read, and the sheet of images."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepleak_core.errors import DeepLeakError
from deepleak_core.events import (
    Event,
    Finished,
    GroundTruthKnown,
    LabelsInferred,
    LabelsRevised,
    Prepared,
    Snapshot,
    from_png,
    in_private_order,
    png,
)
from deepleak_core.runs import export
from deepleak_core.runs.run import run
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario

SCENARIO = Scenario(indices=(0, 1, 3, 4), model="lenet", max_iterations=8, wrong_labels=1)
KEYS = [
    "scenario", "device", "elapsed_s", "iterations", "residual", "labels", "images", "mean_psnr", "min_psnr", "fusion",
    "time_to", "trace", "reason", "sentence", "noise_psnr", "grey_psnr", "mean_ssim", "certified_copies",
]  # fmt: skip
LABEL_KEYS = [
    "true", "inferred", "made_wrong", "mended", "counts_true", "counts_inferred", "exact", "strategy", "proven", "note",
]  # fmt: skip
IMAGE_KEYS = [
    "label", "attacked_as", "psnr", "ssim", "max_error_8bit", "pixel_exact", "psnr_to_mean", "outcome", "fused",
]  # fmt: skip


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return list(run(SCENARIO))


def without_truth(events: list[Event]) -> list[Event]:
    """The events as they are for a captured update."""
    scored = (LabelsInferred, LabelsRevised, Snapshot, Finished)
    kept = [event for event in events if not isinstance(event, GroundTruthKnown)]
    return [replace(event, score=None) if isinstance(event, scored) else event for event in kept]


def test_the_values_are_those_of_the_run(events: list[Event]) -> None:
    summary = export.summary(SCENARIO, events)
    assert list(summary) == KEYS
    assert list(summary["labels"]) == LABEL_KEYS
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.score is not None
    score = finished.score
    assert summary["iterations"] == 8
    assert summary["elapsed_s"] == finished.seconds
    assert (summary["reason"], summary["sentence"]) == ("iterations", finished.sentence)
    assert (summary["noise_psnr"], summary["grey_psnr"]) == (score.noise_psnr, score.grey_psnr)
    labels = summary["labels"]
    assert labels["true"] == [3, 8, 0, 6]
    assert sorted(labels["true"]) == labels["inferred"]
    assert labels["exact"]
    assert (labels["strategy"], labels["proven"]) == ("zero-shot", False)
    assert len(set(labels["made_wrong"]) - {0, 3, 6, 8}) == 1
    assert labels["mended"] is None
    assert labels["counts_true"] == labels["counts_inferred"] == [1, 0, 0, 1, 0, 0, 1, 0, 1, 0]
    assert [list(image) for image in summary["images"]] == [IMAGE_KEYS] * 4
    assert [image["label"] for image in summary["images"]] == [3, 8, 0, 6]
    assert sorted(image["attacked_as"] for image in summary["images"]) == labels["made_wrong"]
    assert [image["psnr"] for image in summary["images"]] == list(score.psnr)
    assert [image["outcome"] for image in summary["images"]] == list(score.outcomes)
    assert summary["min_psnr"] == min(score.psnr)
    assert summary["mean_psnr"] == pytest.approx(sum(score.psnr) / 4)
    assert set(summary["time_to"]) == {"psnr20", "psnr30", "pixel_exact"}
    snapshots = [event for event in events if isinstance(event, Snapshot)]
    assert summary["trace"] == [
        {"step": s.step, "seconds": s.seconds, "residual": s.residual, "mean_psnr": s.score and s.score.mean_psnr}
        for s in snapshots
    ]
    assert Scenario(**summary["scenario"]) == SCENARIO
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_images_are_in_the_order_of_the_private_batch(events: list[Event]) -> None:
    last = next(event for event in reversed(events) if isinstance(event, Snapshot))
    images = export.summary(SCENARIO, events)["images"]
    assert [image["attacked_as"] for image in images] == list(in_private_order(last.labels, last.score))


def test_without_a_ground_truth_what_needs_one_is_null(events: list[Event]) -> None:
    scored, summary = export.summary(SCENARIO, events), export.summary(SCENARIO, without_truth(events))
    assert list(summary) == KEYS
    assert list(summary["labels"]) == LABEL_KEYS
    for key in ("mean_psnr", "min_psnr", "fusion", "noise_psnr", "grey_psnr", "mean_ssim"):
        assert summary[key] is None
    for key in ("true", "counts_true", "exact"):
        assert summary["labels"][key] is None
    last = next(event for event in reversed(events) if isinstance(event, Snapshot))
    assert summary["images"] == [dict.fromkeys(IMAGE_KEYS) | {"attacked_as": label} for label in last.labels], (
        "in the order of the attacker"
    )
    assert summary["time_to"] == {"psnr20": None, "psnr30": None, "pixel_exact": None}
    assert [point["mean_psnr"] for point in summary["trace"]] == [None] * len(scored["trace"])
    for key in ("residual", "iterations", "elapsed_s", "reason"):
        assert summary[key] == scored[key]


def test_an_attack_that_ended_before_its_first_snapshot(events: list[Event]) -> None:
    kept = [event for event in events if not isinstance(event, Snapshot | Finished)]
    ended = Finished(reason="seconds", sentence="Time ended.", step=0, seconds=1.0, residual=math.nan)
    summary = export.summary(SCENARIO, [*kept, ended])
    assert summary["trace"] == []
    assert summary["residual"] is None
    assert summary["min_psnr"] is None
    assert [image["label"] for image in summary["images"]] == [3, 8, 0, 6]
    assert {image["psnr"] for image in summary["images"]} == {None}


def test_labels_that_were_made_wrong_and_mended() -> None:
    scenario = SCENARIO.changed(wrong_labels=0, mislabel=("ship>horse",), repair_labels=True, max_iterations=60)
    events = list(run(scenario))
    summary = export.summary(scenario, events)
    assert summary["labels"]["inferred"] == [0, 3, 6, 8]
    assert summary["labels"]["made_wrong"] == [0, 3, 6, 7]
    (revision,) = [event for event in events if isinstance(event, LabelsRevised)]
    assert summary["labels"]["mended"] == {"labels": [0, 3, 6, 8], "proven": True, "seconds": revision.seconds}
    assert [image["attacked_as"] for image in summary["images"]] == [3, 8, 0, 6]


def test_a_recorded_run_gives_the_same_values(events: list[Event], tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/runs.sqlite")
    run_id = store.create(SCENARIO, this_process())
    store.append(run_id, events)
    assert export.summary(SCENARIO, store.history(run_id)) == export.summary(SCENARIO, events)


def test_only_the_last_attempt_counts(events: list[Event]) -> None:
    assert export.summary(SCENARIO, [*events[:-2], *events]) == export.summary(SCENARIO, events)


def test_what_is_no_number_becomes_null(events: list[Event]) -> None:
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.score is not None
    score = replace(finished.score, psnr=(math.inf, *finished.score.psnr[1:]), noise_psnr=math.nan)
    odd = replace(finished, residual=math.nan, score=score)
    summary = export.summary(SCENARIO, [*events[:-1], odd])
    assert summary["residual"] is None
    assert summary["images"][0]["psnr"] is None
    assert summary["noise_psnr"] is None
    assert "Infinity" not in json.dumps(summary, allow_nan=False)


def test_a_run_without_an_outcome_is_refused(events: list[Event]) -> None:
    with pytest.raises(DeepLeakError, match="run it again"):
        export.summary(SCENARIO, events[:-1])
    with pytest.raises(DeepLeakError, match="run it again"):
        export.summary(SCENARIO, [*events, next(event for event in events if isinstance(event, Prepared))])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("count", "columns", "bands"), [(1, 1, 1), (4, 4, 1), (8, 8, 1), (9, 8, 2)])
def test_a_sheet_shows_every_pixel_as_it_is(count: int, columns: int, bands: int, known: bool) -> None:
    rng = np.random.default_rng(0)
    private, rebuilt = rng.integers(0, 256, (2, count, 3, 32, 32)).astype(np.float32) / 255
    first_row = [png(image) for image in private] if known else None
    page = from_png(export.sheet(first_row, [png(image) for image in rebuilt], ["cat"] * count))
    side = 160  # five screen pixels for each of 32
    left = page.shape[2] - columns * (side + export.GAP)
    band = (page.shape[1] - export.GAP) // bands
    rows = [private, rebuilt] if known else [rebuilt]
    for i in range(count):
        x, y = left + i % columns * (side + export.GAP), export.GAP + i // columns * band
        for row, images in enumerate(rows):
            top = y + row * (side + export.GAP)
            shown = page[:, top : top + side, x : x + side]
            assert np.array_equal(shown, images[i].repeat(5, axis=1).repeat(5, axis=2))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_of_large_images_does_not_shrink_them(channels: int) -> None:
    image = png(np.zeros((channels, 224, 224), dtype=np.float32))
    page = Image.open(io.BytesIO(export.sheet([image], [image], ["a caption that is " + "very " * 40 + "long"])))
    assert page.width > 224
    assert page.height > 2 * 224


def test_a_sheet_takes_equally_many_images_and_captions() -> None:
    image = png(np.zeros((3, 4, 4), dtype=np.float32))
    for private, captions in (([image, image], ["cat"]), ([image], []), (None, ["cat", "dog"])):
        with pytest.raises(ValueError, match="equally many"):
            export.sheet(private, [image], captions)
    with pytest.raises(ValueError, match="at least one"):
        export.sheet([], [], [])
