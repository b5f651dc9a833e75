"""Whether the values of a recorded run from a foreign archive fit each other."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from deepleak_core.errors import UnusableRecording
from deepleak_core.runs.recording.archives import ADVICE
from deepleak_core.runs.recording.kept import RecordedRun

MOST_IMAGES, MOST_CLASSES, LONGEST_TEXT = 4096, 2000, 2000
MOST_SAMPLED = 256  # rows of the sample of an update


def require_consistent(number: int, run: RecordedRun) -> None:
    """Refuse values of the right types that do not fit each other. Raises `UnusableRecording`."""
    problem = next(_problems(run), None)
    if problem is not None:
        raise UnusableRecording(f"Run {number + 1} of the archive is unusable: {problem}; {ADVICE}")


def _problems(run: RecordedRun) -> Iterator[str]:
    batch, classes = len(run.frames[0].labels), len(run.prepared.class_names)
    if not 1 <= classes <= MOST_CLASSES or not 1 <= batch <= MOST_IMAGES:
        yield f"it has {batch} images of {classes} classes"
    if any(len(text) > LONGEST_TEXT for text in _texts(run)):
        yield f"it has a text of more than {LONGEST_TEXT} characters"
    for what, labels in _label_lists(run).items():
        if len(labels) != batch or not all(0 <= label < classes for label in labels):
            yield f"{what} are not {batch} of its {classes} classes"
    for what, length in _lengths(run, batch, classes):
        yield f"{what} has {length} values"
    for what, values in _measures(run):
        if not np.isfinite(values).all():
            yield f"{what} is not finite"
    times = np.array([0.0, *(frame.seconds for frame in run.frames)])
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        yield "the times of its frames do not ascend"
    yield from _picture_problems(run, run.scenario.image_size)


def _picture_problems(run: RecordedRun, size: int) -> Iterator[str]:
    for place, frame in enumerate(run.frames):
        if not _is_picture(frame.pictures, "WEBP", (frame.count * size, size)):
            yield f"frame {place} is no picture of {frame.count} images of {size} pixels"
    for picture in run.truth.pictures if run.truth else ():
        if not _is_picture(picture, "PNG", (size, size)):
            yield f"a private image is no picture of {size} pixels"


def _texts(run: RecordedRun) -> list[str]:
    texts = [run.version, run.device, run.finished.sentence, *run.prepared.class_names]
    texts += [run.prepared.model_title, run.prepared.device, run.prepared.stage_note]
    texts += [text for stage in run.stages for text in (stage.name, stage.sentence)]
    texts += [*run.shared.layers, run.shared.mode] if run.shared else []
    return texts + ([run.inferred.strategy, run.inferred.note] if run.inferred else [])


def _label_lists(run: RecordedRun) -> dict[str, tuple[int, ...]]:
    lists = {f"the labels of frame {place}": frame.labels for place, frame in enumerate(run.frames)}
    lists |= {"the true labels": run.truth.labels} if run.truth else {}
    lists |= {"the inferred labels": run.inferred.order} if run.inferred else {}
    return lists | ({"the revised labels": run.revised.order} if run.revised else {})


def _lengths(run: RecordedRun, batch: int, classes: int) -> Iterator[tuple[str, int]]:
    """What has another length than it should, and which."""
    expected: list[tuple[str, Sequence[Any], set[int]]] = []
    for frame in run.frames:
        expected.append(("psnr", frame.psnr, {0, batch}))
        expected.append(("psnr_to_mean", frame.psnr_to_mean, {0, batch}))
    if (shared := run.shared) is not None:
        expected.append(("sample", shared.sample, {n * n for n in range(MOST_SAMPLED + 1)}))
        expected += [("sizes", shared.sizes, {len(shared.layers)}), ("norms", shared.norms, {len(shared.layers)})]
    if (inferred := run.inferred) is not None:
        expected += [(name, getattr(inferred, name), {classes}) for name in ("evidence", "real_counts", "counts")]
        expected.append(("confidence", inferred.confidence, {0, classes}))
    if (separated := run.separated) is not None:
        images = len(separated.labels)
        expected += [("before", separated.before, {images**2}), ("after", separated.after, {images**2})]
    if (score := run.finished.score) is not None:
        names = ("places", "psnr", "ssim", "max_error_8bit", "pixel_exact", "outcomes")
        expected += [(f"score.{name}", getattr(score, name), {batch}) for name in names]
        expected.append(("score.psnr_to_mean", score.psnr_to_mean, {0, batch}))
        expected.append(("score.fused", score.fused, {0, batch}))
    return ((name, len(values)) for name, values, lengths in expected if len(values) not in lengths)


def _measures(run: RecordedRun) -> Iterator[tuple[str, Sequence[float]]]:
    """What is compared and averaged. Residuals may be infinite: an attack may diverge."""
    for frame in run.frames:
        yield "psnr", frame.psnr
        yield "psnr_to_mean", frame.psnr_to_mean
    yield "the time of its stages", [stage.seconds for stage in run.stages]
    yield "its time", [run.finished.seconds]
    if (score := run.finished.score) is not None:
        yield "score.psnr", score.psnr
        yield "score.ssim", score.ssim
        yield "a baseline", (score.grey_psnr, score.noise_psnr)


def _is_picture(data: bytes, kind: str, size: tuple[int, int]) -> bool:
    """Whether these bytes are one picture of this format and size that can be decoded; the size is read first."""
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as picture:
            if picture.size != size or getattr(picture, "n_frames", 1) != 1:
                return False
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return True
