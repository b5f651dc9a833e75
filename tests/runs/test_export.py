"""Exports: the figures other tools read, and the sheet of pictures."""

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
from deepleak_core.events import Event, Finished, LabelsRevised, Prepared, Snapshot, from_png, png
from deepleak_core.runs import export
from deepleak_core.runs.run import run
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario

SCENARIO = Scenario(indices=(0, 1, 3, 4), model="lenet", max_iterations=8, wrong_labels=1)


@pytest.fixture(scope="module")
def told() -> list[Event]:
    return list(run(SCENARIO))


def test_the_figures_are_those_of_the_run(told: list[Event]) -> None:
    summary = export.summary(SCENARIO, told)
    assert list(summary) == [
        "scenario",
        "device",
        "elapsed_s",
        "iterations",
        "residual",
        "labels",
        "images",
        "mean_psnr",
        "min_psnr",
        "fusion",
        "time_to",
        "trace",
    ]
    finished = told[-1]
    assert isinstance(finished, Finished)
    assert summary["iterations"] == 8 and summary["elapsed_s"] == finished.seconds
    assert list(summary["labels"]) == [
        "true",
        "inferred",
        "made_wrong",
        "mended",
        "counts_true",
        "counts_inferred",
        "exact",
    ]
    assert summary["labels"]["true"] == [3, 8, 0, 6]
    assert sorted(summary["labels"]["true"]) == summary["labels"]["inferred"] and summary["labels"]["exact"]
    assert len(set(summary["labels"]["made_wrong"]) - {0, 3, 6, 8}) == 1 and summary["labels"]["mended"] is None
    assert summary["labels"]["counts_true"] == [1, 0, 0, 1, 0, 0, 1, 0, 1, 0]
    assert [list(image) for image in summary["images"]] == [
        ["label", "attacked_as", "psnr", "ssim", "max_error_8bit", "pixel_exact", "psnr_to_mean"]
    ] * 4
    assert [image["label"] for image in summary["images"]] == [3, 8, 0, 6]
    assert sorted(image["attacked_as"] for image in summary["images"]) == summary["labels"]["made_wrong"]
    assert [image["psnr"] for image in summary["images"]] == list(finished.psnr)
    assert summary["min_psnr"] == min(finished.psnr)
    assert summary["mean_psnr"] == pytest.approx(sum(finished.psnr) / 4)
    assert set(summary["time_to"]) == {"psnr20", "psnr30", "pixel_exact"}
    snapshots = [event for event in told if isinstance(event, Snapshot)]
    assert summary["trace"] == [
        {"step": s.step, "seconds": s.seconds, "residual": s.residual, "mean_psnr": s.mean_psnr} for s in snapshots
    ]
    assert Scenario(**summary["scenario"]) == SCENARIO
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_figures_say_which_labels_were_made_wrong_and_which_were_mended() -> None:
    scenario = SCENARIO.changed(wrong_labels=0, mislabel=("ship>horse",), repair_labels=True, max_iterations=60)
    told = list(run(scenario))
    summary = export.summary(scenario, told)
    assert summary["labels"]["inferred"] == [0, 3, 6, 8] and summary["labels"]["made_wrong"] == [0, 3, 6, 7]
    (revision,) = [event for event in told if isinstance(event, LabelsRevised)]
    assert summary["labels"]["mended"] == {"labels": [0, 3, 6, 8], "proven": True, "seconds": revision.seconds}
    assert [image["attacked_as"] for image in summary["images"]] == [3, 8, 0, 6]


def test_a_recorded_run_gives_the_same_figures(told: list[Event], tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/runs.sqlite")
    run_id = store.create(SCENARIO, this_process())
    store.append(run_id, told)
    assert export.summary(SCENARIO, store.history(run_id)) == export.summary(SCENARIO, told)


def test_only_the_last_attempt_counts(told: list[Event]) -> None:
    assert export.summary(SCENARIO, [*told[:-2], *told]) == export.summary(SCENARIO, told)


def test_what_is_no_number_becomes_null(told: list[Event]) -> None:
    finished = told[-1]
    assert isinstance(finished, Finished)
    odd = replace(finished, residual=math.nan, psnr=(math.inf, *finished.psnr[1:]))
    summary = export.summary(SCENARIO, [*told[:-1], odd])
    assert summary["residual"] is None and summary["images"][0]["psnr"] is None
    assert "Infinity" not in json.dumps(summary, allow_nan=False)


def test_a_run_without_an_outcome_has_no_figures(told: list[Event]) -> None:
    with pytest.raises(DeepLeakError, match="run it again"):
        export.summary(SCENARIO, told[:-1])
    with pytest.raises(DeepLeakError, match="run it again"):
        export.summary(SCENARIO, [*told, next(event for event in told if isinstance(event, Prepared))])


@pytest.mark.parametrize("count, columns, bands", [(1, 1, 1), (4, 4, 1), (8, 8, 1), (9, 8, 2)])
def test_a_sheet_shows_every_pixel_as_it_is(count: int, columns: int, bands: int) -> None:
    rng = np.random.default_rng(0)
    private, rebuilt = rng.integers(0, 256, (2, count, 32, 32, 3), dtype=np.uint8)
    page = from_png(export.sheet([png(p) for p in private], [png(p) for p in rebuilt], ["cat"] * count))
    side = 160  # five screen pixels for each of 32
    left = page.shape[1] - columns * (side + export.GAP)
    band = (page.shape[0] - export.GAP) // bands
    for i in range(count):
        x, y = left + i % columns * (side + export.GAP), export.GAP + i // columns * band
        for top, picture in ((y, private[i]), (y + side + export.GAP, rebuilt[i])):
            shown = page[top : top + side, x : x + side]
            assert np.array_equal(shown, picture.repeat(5, axis=0).repeat(5, axis=1))


def test_a_sheet_of_large_pictures_does_not_shrink_them() -> None:
    picture = png(np.zeros((224, 224, 3), dtype=np.uint8))
    page = Image.open(io.BytesIO(export.sheet([picture], [picture], ["a caption that is " + "very " * 40 + "long"])))
    assert page.width > 224 and page.height > 2 * 224


def test_a_sheet_takes_equally_many_pictures_and_captions() -> None:
    picture = png(np.zeros((4, 4, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="2 private and 1 rebuilt pictures and 1 captions"):
        export.sheet([picture, picture], [picture], ["cat"])
    with pytest.raises(ValueError, match="at least one"):
        export.sheet([], [], [])
