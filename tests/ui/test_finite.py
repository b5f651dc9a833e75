"""Numbers that are not finite, from a score on: no JSON with them in it, and no chart or player that fails."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import streamlit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepleak_core.errors import UnusableRecording
from deepleak_core.events import Prepared, Score, Snapshot, UpdateShared
from deepleak_core.runs import export
from deepleak_core.runs.recording import RecordedRun, load, save, single
from deepleak_core.runs.store import Moment, Store, this_process
from deepleak_core.scenario import Scenario
from tests.helpers import finished
from tests.ui.samples import inferred
from ui import charts, echarts, heat_map, server_view
from ui.heat_map import Cell, Row
from ui.player import LiveFrame, Track, payload
from ui.tracks import curve_of

NUMBERS = st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.7e308, 5e-324]), st.floats(0, 120))
PAIRS = st.tuples(NUMBERS, NUMBERS)
any_numbers = settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def strict(values: Any) -> str:
    """JSON as browsers and other programs read it; fails for numbers that are not finite."""
    return json.dumps(values, allow_nan=False)


def snapshot(residual: float, psnr: tuple[float, ...]) -> Snapshot:
    score = Score(places=(0, 1), psnr=psnr, psnr_to_mean=psnr)
    return Snapshot(
        step=1, seconds=0.5, loss=residual, residual=residual, labels=(3, 6), progress=0.5, score=score,
        images=np.zeros((2, 3, 8, 8), np.float32),
    )  # fmt: skip


def moments(residuals: tuple[float, ...], psnr: tuple[float, ...], *, scored: bool) -> list[Moment]:
    """Moments with these residuals, one after the other."""
    score = Score(places=(0, 1), psnr=psnr) if scored else None
    common: dict[str, Any] = {"attempt": 1, "step": 0, "labels": (3, 6), "progress": None, "score": score}
    return [Moment(n=n, seconds=n / 8, loss=r, residual=r, **common) for n, r in enumerate(residuals)]


@any_numbers
@given(residual=NUMBERS, psnr=PAIRS)
def test_events_are_kept_as_strict_json_and_read_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, residual: float, psnr: tuple[float, float]
) -> None:
    file = tmp_path_factory.mktemp("kept") / "runs.sqlite"
    store = Store(f"sqlite:///{file}")
    run_id = store.create(Scenario(), this_process())
    store.append(run_id, [snapshot(residual, psnr), finished(psnr, residual)])
    with sqlite3.connect(file) as connection:
        for (header,) in connection.execute("SELECT header FROM events"):
            json.loads(header, parse_constant=pytest.fail)
    (kept,) = store.curve(run_id)
    assert kept.score is not None
    assert [kept.residual, *kept.score.psnr] == pytest.approx([residual, *psnr], nan_ok=True)


@any_numbers
@given(residual=NUMBERS, psnr=PAIRS)
def test_the_player_is_sent_strict_json(recorded_run: RecordedRun, residual: float, psnr: tuple[float, float]) -> None:
    frames = tuple(replace(frame, residual=residual, psnr=psnr) for frame in recorded_run.frames)
    run = replace(recorded_run, frames=frames, finished=finished(psnr, residual))
    strict(payload.still([Track(title="", name="", run=run)], autoplay=False, loop=False, height=None))
    live = LiveFrame(
        seconds=0.5, step=1, residual=residual, labels=(3, 6), captions=("cat", "frog"), pictures=frames[0].pictures,
        psnr=psnr, psnr_to_mean=psnr, baseline=psnr[0], curve=((0.5, psnr[1]),), progress=residual,
    )  # fmt: skip
    strict(payload.news([Track(title="", name="", live=live)], "stamp"))


@any_numbers
@given(residuals=st.tuples(NUMBERS, NUMBERS, NUMBERS), psnr=PAIRS, scored=st.booleans())
def test_curves_are_drawn_of_what_is_finite(
    monkeypatch: pytest.MonkeyPatch, residuals: tuple[float, ...], psnr: tuple[float, float], scored: bool
) -> None:
    monkeypatch.setattr(streamlit, "echarts_chart", lambda option, **_: strict(option))  # as Streamlit encodes it
    found = moments(residuals, psnr, scored=scored)
    echarts.run_curves(found, ["cat", "frog"], {"flat grey image": psnr[0]})
    echarts.accuracy({"one": [("1", psnr[0]), ("2", psnr[1])]}, ["1", "2"], over="Batch", title="batches", key="key")
    assert all(math.isfinite(value) for point in curve_of(found) for value in point)


@any_numbers
@given(psnr=PAIRS)
def test_a_sweep_has_an_axis_with_ends(monkeypatch: pytest.MonkeyPatch, psnr: tuple[float, float]) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(streamlit, "plotly_chart", lambda figure, **_: drawn.append(figure))
    charts.sweep([("mean", [(0, psnr), (1, (12.0,))])], range(2), {}, axis="wrong labels", key="key")
    assert all(map(math.isfinite, drawn[-1].layout.yaxis.range))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_maps_bars_and_labels_are_drawn(number: float) -> None:
    row = Row(title="cat", picture=b"\x89PNG", cells=(Cell(id="cat>dog", value=number, text="1"),))
    heat_map.heat_map([row], ["dog"], key=f"map {number}", caption="")
    update = UpdateShared(
        mode="fedsgd", batch_size=2, local_steps=1, layers=("one", "two"), sizes=(4, 4), norms=(1.0, number), bytes=32
    )
    found = inferred((1, 1), (number, 1.0), evidence=(number, 0.5), confidence=(number, 0.5))
    assert "two" in server_view.update(update)
    assert "dog" in server_view.labels(found, (0, 1), ("cat", "dog"), true_counts=None)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_archives_keep_infinite_residuals_and_refuse_such_a_psnr(recorded_run: RecordedRun, number: float) -> None:
    last = recorded_run.frames[-1]
    diverged = replace(recorded_run, frames=(*recorded_run.frames[:-1], replace(last, residual=number)))
    kept = load(save(single(diverged))).runs[0].frames[-1].residual
    assert kept == pytest.approx(number, nan_ok=True)
    impossible = replace(recorded_run, frames=(*recorded_run.frames[:-1], replace(last, psnr=(number, 1.0))))
    with pytest.raises(UnusableRecording, match="psnr is not finite"):
        load(save(single(impossible)))


@any_numbers
@given(residuals=st.tuples(NUMBERS, NUMBERS), psnr=PAIRS)
def test_results_for_other_programs_are_strict_json(residuals: tuple[float, float], psnr: tuple[float, float]) -> None:
    facts = Prepared(class_names=("cat", "dog"), model_title="", parameters=1, device="cpu", stage_note="")
    events = [facts, inferred((1, 1)), *moments(residuals, psnr, scored=True), finished(psnr, residuals[0])]
    strict(export.summary(Scenario(), events))
