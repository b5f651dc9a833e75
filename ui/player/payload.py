"""The parts of a player as plain values for the browser.

What stays as it is (`still`) and what changes several times a second during a run (`news`) travel apart, so that a
running attack sends its newest pictures and curve only. Numbers that are not finite are sent as null.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from deepleak_core.runs.recording import SHOWN, RecordedFrame, RecordedRun
from deepleak_core.text import json_values
from ui.player.parts import Column, LiveFrame, Note, Still, Track
from ui.rendering import base64_of


def still(columns: Sequence[Column], *, autoplay: bool, loop: bool, height: str | None) -> dict[str, Any]:
    """The columns without what is under way. `stamp` names this content."""
    drawn = [_column(column) for column in columns]
    for n, track in enumerate(column for column in drawn if column["kind"] == "track"):
        track["curve"] = n
    values: dict[str, Any] = json_values({"columns": drawn, "autoplay": autoplay, "loop": loop, "height": height})
    return values | {"stamp": hashlib.sha1(json.dumps(values).encode(), usedforsecurity=False).hexdigest()[:16]}


def news(columns: Sequence[Column], stamp: str) -> dict[str, Any]:
    """What is under way, by the place of its column; `stamp` is that of the columns that it belongs to."""
    tracks = {str(n): _news(column) for n, column in enumerate(columns) if isinstance(column, Track)}
    values: dict[str, Any] = json_values({"stamp": stamp, "tracks": tracks})
    return values


def _column(column: Column) -> dict[str, Any]:
    common = {"title": column.title, "weight": column.weight}
    if isinstance(column, Note):
        return common | {"kind": "note", "html": str(column.html)}
    if isinstance(column, Still):
        return common | {
            "kind": "still",
            "pictures": [base64_of(picture) for picture in column.pictures[:SHOWN]],
            "count": min(column.count, SHOWN),
            "more": max(0, len(column.pictures) - SHOWN),
            "captions": column.captions,
            "notes": column.notes,
            "wrong": column.wrong,
            "choices": column.choices,
        }
    return common | {
        "kind": "track",
        "name": column.name,
        "count": min(column.count, SHOWN),
        "asides": column.asides,
        "against": column.against,
        "average": column.average,
        "gauge": column.gauge,
        "hideWrong": column.hide_wrong,
        "run": None if column.run is None else _run(column.run, with_truth=column.average),
    }


def _run(run: RecordedRun, *, with_truth: bool) -> dict[str, Any]:
    names, truth, score = run.prepared.class_names, run.truth, run.finished.score
    used = {label for frame in run.frames for label in frame.labels}
    return {
        "seconds": max([run.finished.seconds, *(frame.seconds for frame in run.frames[-1:])]),
        "frames": [_frame(frame) for frame in run.frames],
        "names": {str(label): names[label] for label in sorted(used)},
        "truth": truth.labels[:SHOWN] if truth is not None else (),
        "private": [base64_of(picture) for picture in truth.pictures[:SHOWN]]
        if truth is not None and with_truth
        else (),
        "outcomes": score.outcomes[:SHOWN] if score is not None else (),
        "baseline": score.grey_psnr if score is not None else None,
        "stages": [{"t": stage.seconds, "name": stage.name, "sentence": stage.sentence} for stage in run.stages],
        "more": max(0, run.scenario.batch_size - SHOWN),
    }


def _frame(frame: RecordedFrame) -> dict[str, Any]:
    return {
        "t": round(frame.seconds, 3),
        "step": frame.step,
        "residual": frame.residual,
        "labels": frame.labels[:SHOWN],
        "psnr": _rounded(frame.psnr),
        "toMean": _rounded(frame.psnr_to_mean),
        "mean": _mean(frame.psnr),
        "strip": base64_of(frame.pictures),
    }


def _news(track: Track) -> dict[str, Any]:
    return {
        "waiting": track.waiting,
        "share": track.waiting_share,
        "stream": track.stream,
        "live": None if track.live is None or track.run is not None else live(track.live),
    }


def live(frame: LiveFrame) -> dict[str, Any]:
    """One moment of a run under way."""
    return {
        "t": frame.seconds,
        "step": frame.step,
        "residual": frame.residual,
        "labels": frame.labels[:SHOWN],
        "captions": frame.captions[:SHOWN],
        "wrong": frame.wrong[:SHOWN],
        "psnr": _rounded(frame.psnr),
        "toMean": _rounded(frame.psnr_to_mean),
        "mean": _mean(frame.psnr),
        "strip": base64_of(frame.pictures),
        "baseline": frame.baseline,
        "curve": [[round(seconds, 3), round(quality, 3)] for seconds, quality in frame.curve],
        "progress": frame.progress,
        "sentence": frame.sentence,
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in values[:SHOWN]]


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 2) if values else None
