"""What a run leaves behind for other tools and for slides: its figures as JSON values, its pictures as one sheet."""

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

COLUMNS = 8  # pictures side by side in a sheet, further ones follow below
CELL = 160  # pixels a picture is enlarged to, as near as a whole factor comes
GAP = 12
CAPTION = 36  # height of a line of text and the room below it


def summary(scenario: Scenario, events: Iterable[Event | Moment]) -> dict[str, Any]:
    """The outcome of a finished run as plain JSON values; null stands for what is no number.

    Takes what `runs.run.run` yields or what `Store.history` gives back; of a run that was started again, the last
    attempt counts. Times are seconds of attack time. Raises `DeepLeakError` for a run without an outcome.
    """
    latest: dict[type, Any] = {}
    trace: list[dict[str, Any]] = []
    believed: tuple[int, ...] = ()  # the labels that the attack assumed last, in its own order
    for event in events:
        if isinstance(event, Prepared):
            latest, trace = {}, []
        if isinstance(event, Snapshot | Moment):
            believed = event.labels
            trace.append(
                {
                    "step": event.step,
                    "seconds": event.seconds,
                    "residual": event.residual,
                    "mean_psnr": event.score.mean_psnr if event.score else None,
                }
            )
        latest[type(event)] = event
    if Finished not in latest:
        raise DeepLeakError("This run has no outcome to export: it ended before its attack did; run it again.")
    prepared: Prepared = latest[Prepared]
    truth: GroundTruthKnown | None = latest.get(GroundTruthKnown)
    finished: Finished = latest[Finished]
    score = finished.score
    plain: dict[str, Any] = _plain(
        {
            "scenario": scenario.model_dump(mode="json"),
            "device": prepared.device,
            "elapsed_s": finished.seconds,
            "iterations": finished.step,
            "residual": finished.residual,
            "reason": finished.reason,
            "sentence": finished.sentence,
            "labels": _labels(latest[LabelsInferred], latest.get(LabelsRevised), truth),
            "images": _images(truth, in_private_order(believed, score), score),
            "mean_psnr": score.mean_psnr if score else None,
            "min_psnr": min(score.psnr) if score else None,
            "noise_psnr": score.noise_psnr if score else None,
            "grey_psnr": score.grey_psnr if score else None,
            "fusion": score.fusion if score else None,
            "time_to": score.time_to if score else dict.fromkeys(("psnr20", "psnr30", "pixel_exact")),
            "trace": trace,
        }
    )
    return plain


def _labels(inferred: LabelsInferred, revised: LabelsRevised | None, truth: GroundTruthKnown | None) -> dict[str, Any]:
    score = inferred.score
    return {
        "strategy": inferred.strategy,
        "proven": inferred.certified,
        "true": list(truth.labels) if truth else None,
        "inferred": list(inferred.found),
        "made_wrong": list(inferred.order) if inferred.falsified else None,
        "mended": {"labels": list(revised.order), "proven": revised.certified, "seconds": revised.seconds}
        if revised
        else None,
        "counts_true": list(score.true_counts) if score else None,
        "counts_inferred": list(inferred.counts),
        "exact": score.exact if score else None,
        "note": inferred.note,
    }


def _images(
    truth: GroundTruthKnown | None, believed: tuple[int, ...], score: FinalScore | None
) -> list[dict[str, Any]]:
    """One entry an image: in the order of the private batch, or of the attacker where there is no ground truth."""
    nothing = (None,) * len(believed)
    columns = {
        "label": truth.labels if truth else nothing,
        "attacked_as": believed,
        "psnr": score.psnr if score else nothing,
        "ssim": score.ssim if score else nothing,
        "max_error_8bit": score.max_error_8bit if score else nothing,
        "pixel_exact": score.pixel_exact if score else nothing,
        "outcome": score.outcomes if score else nothing,
        "psnr_to_mean": (score.psnr_to_mean if score else ()) or nothing,
    }
    return [dict(zip(columns, image, strict=True)) for image in zip(*columns.values(), strict=True)]


def _plain(value: Any) -> Any:
    """Infinity and NaN are no JSON: null instead, however deep they sit."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sheet(private: Sequence[bytes], rebuilt: Sequence[bytes], captions: Sequence[str]) -> bytes:
    """One PNG picture for slides: private pictures above the rebuilt ones, a caption below each pair.

    All pictures are PNG bytes of one size; each is enlarged by a whole factor, its pixels left as they are.
    """
    if not len(private) == len(rebuilt) == len(captions) > 0:
        raise ValueError(
            f"There were {len(private)} private and {len(rebuilt)} rebuilt pictures and {len(captions)} captions; "
            "a sheet takes equally many of each, and at least one."
        )
    first = Image.open(io.BytesIO(private[0]))
    factor = max(1, round(CELL / max(first.size)))
    width, height = first.width * factor, first.height * factor
    columns = min(COLUMNS, len(private))
    font = ImageFont.load_default(size=15)
    margin = GAP + round(max(font.getlength(title) for title in ("private", "rebuilt"))) + GAP
    band = 2 * (height + GAP) + CAPTION  # two rows of pictures and their captions
    bands = math.ceil(len(private) / columns)
    page = Image.new("RGB", (margin + columns * (width + GAP), GAP + bands * band), "white")
    draw = ImageDraw.Draw(page)
    for i, (above, below, caption) in enumerate(zip(private, rebuilt, captions, strict=True)):
        x = margin + i % columns * (width + GAP)
        top = GAP + i // columns * band
        for y, title, picture in ((top, "private", above), (top + height + GAP, "rebuilt", below)):
            page.paste(Image.open(io.BytesIO(picture)).resize((width, height), Image.Resampling.NEAREST), (x, y))
            if i % columns == 0:
                draw.text((GAP, y + height // 2), title, "dimgray", font, anchor="lm")
        draw.text(
            (x + width // 2, top + 2 * (height + GAP)), _fit(caption, width + GAP, font), "black", font, anchor="ma"
        )
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def _fit(text: str, width: int, font: Any) -> str:
    """A caption that is too long loses its end, not its neighbour's place."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
