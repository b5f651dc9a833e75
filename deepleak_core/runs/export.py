"""Export a run for other tools and slides: its results as JSON values, its images as one sheet."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from deepleak_core.errors import DeepLeakError
from deepleak_core.events import (
    Event,
    FinalScore,
    Finished,
    GroundTruthKnown,
    LabelsInferred,
    LabelsRevised,
    Prepared,
    Snapshot,
    in_private_order,
)
from deepleak_core.runs.store import Moment
from deepleak_core.scenario import Scenario
from deepleak_core.text import json_values

COLUMNS = 8  # images side by side in a sheet, further ones follow below
CELL = 160  # pixels that an image is enlarged to, as near as a whole factor comes
GAP = 12
CAPTION = 36  # height of a line of text and the space below it
TIMES = ("psnr20", "psnr30", "pixel_exact")


def summary(scenario: Scenario, events: Iterable[Event | Moment]) -> dict[str, Any]:
    """The outcome of a finished run as plain JSON values; None replaces what is unknown or not finite.

    Images are in the order of the private batch, or in the attacker's where there is no ground truth. Times are seconds
    of attack time.

    Args:
        scenario: What was run.
        events: What `deepleak_core.run` yields or `Store.history` returns. Of a run that was started again, the last
            attempt counts.

    Raises:
        DeepLeakError: The run has no outcome.
    """
    last: dict[type, Any] = {}
    trace: list[dict[str, Any]] = []
    for event in events:
        if isinstance(event, Prepared):  # the first event of each attempt
            last, trace = {}, []
        if isinstance(event, Snapshot | Moment):
            last[Moment] = event
            trace.append(_point(event))
        last[type(event)] = event
    if Finished not in last:
        raise DeepLeakError("This run has no outcome to export: it ended before its attack did; run it again.")
    finished: Finished = last[Finished]
    score = finished.score
    values = {
        "scenario": scenario.model_dump(mode="json"),
        "device": last[Prepared].device,
        "elapsed_s": finished.seconds,
        "iterations": finished.step,
        "residual": finished.residual,
        "labels": _labels(last.get(GroundTruthKnown), last[LabelsInferred], last.get(LabelsRevised)),
        "images": _images(last.get(GroundTruthKnown), last.get(Moment), score),
        "mean_psnr": score.mean_psnr if score else None,
        "min_psnr": min(score.psnr) if score else None,
        "fusion": score.fusion if score else None,
        "time_to": score.time_to if score else dict.fromkeys(TIMES),
        "trace": trace,
        "reason": finished.reason,
        "sentence": finished.sentence,
        "noise_psnr": score.noise_psnr if score else None,
        "grey_psnr": score.grey_psnr if score else None,
        "mean_ssim": sum(score.ssim) / len(score.ssim) if score else None,
        "certified_copies": finished.certified,
    }
    plain: dict[str, Any] = json_values(values)
    return plain


def _point(moment: Snapshot | Moment) -> dict[str, Any]:
    return {
        "step": moment.step,
        "seconds": moment.seconds,
        "residual": moment.residual,
        "mean_psnr": moment.score.mean_psnr if moment.score else None,
    }


def _labels(truth: GroundTruthKnown | None, inferred: LabelsInferred, revised: LabelsRevised | None) -> dict[str, Any]:
    """True and inferred labels. `exact` is whether the inferred counts are the true ones, deliberate errors aside."""
    true_counts = inferred.score.true_counts if inferred.score else None
    mended = revised and {"labels": revised.order, "proven": revised.certified, "seconds": revised.seconds}
    return {
        "true": truth.labels if truth else None,
        "inferred": inferred.found,
        "made_wrong": inferred.order if inferred.falsified else None,
        "mended": mended,
        "counts_true": true_counts,
        "counts_inferred": inferred.counts,
        "exact": None if true_counts is None else true_counts == inferred.counts,
        "strategy": inferred.strategy,
        "proven": inferred.certified,
        "note": inferred.note,
    }


def _images(
    truth: GroundTruthKnown | None, last: Snapshot | Moment | None, score: FinalScore | None
) -> list[dict[str, Any]]:
    """One entry for each image; none where there is neither a ground truth nor a reconstruction."""
    assumed = in_private_order(last.labels, score or last.score) if last else None
    columns: dict[str, Sequence[Any] | None] = {
        "label": truth.labels if truth else None,
        "attacked_as": assumed,
        "psnr": score.psnr if score else None,
        "ssim": score.ssim if score else None,
        "max_error_8bit": score.max_error_8bit if score else None,
        "pixel_exact": score.pixel_exact if score else None,
        "psnr_to_mean": (score.psnr_to_mean or None) if score else None,
        "outcome": score.outcomes if score else None,
        "fused": (score.fused or None) if score else None,
    }
    count = max((len(column) for column in columns.values() if column is not None), default=0)
    return [{name: column[i] if column else None for name, column in columns.items()} for i in range(count)]


def sheet(private: Sequence[bytes] | None, rebuilt: Sequence[bytes], captions: Sequence[str]) -> bytes:
    """One PNG image for slides: the private images, if known, above the rebuilt ones, a caption below each pair.

    All images are PNG bytes of one size; each is enlarged by a whole factor, so its pixels stay sharp.
    """
    if not len(rebuilt) == len(captions) > 0 or (private is not None and len(private) != len(rebuilt)):
        given = "" if private is None else f"{len(private)} private and "
        raise ValueError(
            f"There were {given}{len(rebuilt)} rebuilt images and {len(captions)} captions; "
            "a sheet takes equally many of each, and at least one."
        )
    rows = {"rebuilt": rebuilt} if private is None else {"private": private, "rebuilt": rebuilt}
    first = Image.open(io.BytesIO(rebuilt[0]))
    factor = max(1, round(CELL / max(first.size)))
    width, height = first.width * factor, first.height * factor
    columns = min(COLUMNS, len(rebuilt))
    font = ImageFont.load_default(size=15)
    margin = GAP + round(max(font.getlength(title) for title in rows)) + GAP
    band = len(rows) * (height + GAP) + CAPTION  # the rows of images and their captions
    bands = math.ceil(len(rebuilt) / columns)
    page = Image.new("RGB", (margin + columns * (width + GAP), GAP + bands * band), "white")
    draw = ImageDraw.Draw(page)
    for i, caption in enumerate(captions):
        x, y = margin + i % columns * (width + GAP), GAP + i // columns * band
        for title, images in rows.items():
            page.paste(Image.open(io.BytesIO(images[i])).resize((width, height), Image.Resampling.NEAREST), (x, y))
            if i % columns == 0:
                draw.text((GAP, y + height // 2), title, "dimgray", font, anchor="lm")
            y += height + GAP
        draw.text((x + width // 2, y), _fit(caption, width + GAP, font), "black", font, anchor="ma")
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _fit(text: str, width: int, font: Any) -> str:
    """The text, shortened at its end where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
