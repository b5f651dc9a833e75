"""Recordings: runs that are played again without computing, and the archives that keep them.

`recorded` makes a `RecordedRun` of the events of a run: at most `MOST_FRAMES` frames, in the order of the private
images. That order is fixed from the last frame, so no two pictures change places. Where the attack replaces its labels,
its images are others from then on, and each part has the order of its own last frame.

A `Recording` is a short sequence of runs that belong together. `save` makes one zip archive of it: run.json with all
that is text or numbers, private/RUN/0000.png with the private images, frames/RUN/0000.webp with the pictures of each
frame side by side. `load` reads an archive from anywhere: it checks sizes before it decodes, and all values by their
types. Texts in it are as foreign as the file, so whoever draws them must escape them.

The gallery is a folder of archives that come with the app, in the order of their file names.

This module imports neither PyTorch nor the run store.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError

from deepleak_core.errors import DeepLeakError, UnusableRecording
from deepleak_core.events import (
    Event,
    FeaturesSeparated,
    Finished,
    GroundTruthKnown,
    Images,
    LabelsInferred,
    LabelsRevised,
    Prepared,
    Snapshot,
    Stage,
    UpdateShared,
    from_png,
    to_8bit,
)
from deepleak_core.runs.archives import ADVICE, MOST_BYTES, Archive, packed
from deepleak_core.scenario import Scenario
from deepleak_core.scoring.pictures import psnr
from deepleak_core.text import json_values, listed, shorten
from deepleak_core.version import VERSION

if TYPE_CHECKING:
    from deepleak_core.runs.store import Store

logger = logging.getLogger(__name__)

GALLERY = Path(__file__).parents[2] / "assets" / "gallery"  # only in a copy of the repository

FORMAT, FORMAT_VERSION = "deepleak-recording", 1
MOST_FRAMES = 60  # of one run, when it is recorded
MOST_FRAMES_READ = 240  # of one run, in an archive
MOST_RUNS = 6
MOST_SAMPLED = 256  # rows of the sample of an update
SHOWN = 64  # pictures of a larger batch that a frame holds
LOSSLESS_PIXELS = 8192  # of a frame; larger ones are compressed with loss, but for the last
WEBP_QUALITY = 90
MOST_IMAGES, MOST_CLASSES, LONGEST_TEXT = 4096, 2000, 2000
ENTRIES = {r"run\.json": 8 * 2**20, r"private/\d\/\d{4}\.png": 2**19, r"frames/\d/\d{4}\.webp": 12 * 2**20}
Pixels = npt.NDArray[np.uint8]
Page = Literal["live", "fusion", "wrong-label", "gradinversion"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Title = Annotated[str, Field(min_length=1, max_length=120)]
LONGEST_SENTENCE = 600
Sentence = Annotated[str, Field(min_length=1, max_length=LONGEST_SENTENCE)]


# ------------------------------------------------------------------------------------------------------ what is kept


@dataclass(frozen=True, kw_only=True)
class RecordedFrame:
    """One moment of an attack. Values and pictures are in the order of the private images, or the attacker's.

    `labels` (B,) are the classes that the attacker assumes. `psnr` (B,) is in dB under the fixed order; `psnr_to_mean`
    (B,) only where labels repeat. `pictures` are the first `SHOWN` images side by side as one WebP picture.
    """

    step: int
    seconds: float
    residual: float
    labels: tuple[int, ...]
    psnr: tuple[float, ...] = ()
    psnr_to_mean: tuple[float, ...] = ()
    pictures: bytes

    @property
    def count(self) -> int:
        """Number of images in `pictures`."""
        return min(len(self.labels), SHOWN)

    @property
    def mean_psnr(self) -> float | None:
        """Mean PSNR of the batch in dB, None without a ground truth."""
        return sum(self.psnr) / len(self.psnr) if self.psnr else None


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A finished run: the events that happen once, and frames. `version` is DeepLeak's, `device` what it ran on."""

    scenario: Scenario
    version: str
    device: str
    prepared: Prepared
    truth: GroundTruthKnown | None
    shared: UpdateShared | None
    inferred: LabelsInferred | None
    revised: LabelsRevised | None
    separated: FeaturesSeparated | None
    stages: tuple[Stage, ...]
    frames: tuple[RecordedFrame, ...]
    finished: Finished


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A short sequence of runs on one page, under a name that is fit for a link; what one archive holds."""

    name: Name
    title: Title
    sentence: Sentence
    page: Page
    runs: Annotated[tuple[RecordedRun, ...], Field(min_length=1, max_length=MOST_RUNS)]


@dataclass(frozen=True, kw_only=True)
class RunHead:
    """What a list of recordings shows of one run: `pictures` are its last ones, as PNG."""

    scenario: Scenario
    device: str
    seconds: float
    pictures: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a list of recordings shows of one; `size` is the archive's in bytes."""

    name: str
    title: str
    sentence: str
    page: Page
    runs: tuple[RunHead, ...]
    size: int

    @property
    def scenario(self) -> Scenario:
        """The scenario of the first run."""
        return self.runs[0].scenario

    @property
    def pictures(self) -> tuple[bytes, ...]:
        """The last pictures of the first run, as PNG."""
        return self.runs[0].pictures

    def pictures_of(self, scenario: Scenario) -> tuple[bytes, ...]:
        """The last pictures of the run of this scenario, as PNG; empty where there is none."""
        return next((run.pictures for run in self.runs if run.scenario == scenario), ())

    @property
    def seconds(self) -> float:
        """The attack time of all runs."""
        return sum(run.seconds for run in self.runs)


# ----------------------------------------------------------------------------------------------------- from events


def recorded(scenario: Scenario, events: Iterable[Event], *, most_frames: int = MOST_FRAMES) -> RecordedRun:
    """A run of its events, thinned to frames that are evenly spread over the attack time; first and last are kept.

    Args:
        scenario: What was run.
        events: What `deepleak_core.run` yields or `Store.events` returns. Of a run that was started again, the last
            attempt counts.
        most_frames: At least 2.

    Raises:
        UnusableRecording: The run ended before there was a picture.
    """
    once: dict[type, Any] = {}
    stages: list[Stage] = []
    snapshots: list[Snapshot] = []
    for event in events:
        if isinstance(event, Prepared):  # the first event of each attempt
            once, stages, snapshots = {}, [], []
        if isinstance(event, Stage):
            stages.append(event)
        elif isinstance(event, Snapshot):
            snapshots.append(event)
            if len(snapshots) > 16 * most_frames:  # of a long run, keep every second one
                del snapshots[1:-1:2]
        else:
            once[type(event)] = event
    if not {Prepared, Finished} <= once.keys() or not snapshots:
        raise UnusableRecording("This run ended before there was a picture to record; run it again.")
    kept = [snapshots[i] for i in evenly([snapshot.seconds for snapshot in snapshots], most_frames)]
    return RecordedRun(
        scenario=scenario,
        version=VERSION,
        device=once[Prepared].device,
        prepared=once[Prepared],
        truth=once.get(GroundTruthKnown),
        shared=once.get(UpdateShared),
        inferred=once.get(LabelsInferred),
        revised=once.get(LabelsRevised),
        separated=once.get(FeaturesSeparated),
        stages=tuple(stages),
        frames=_frames(kept, once.get(GroundTruthKnown)),
        finished=once[Finished],
    )


def recorded_from(store: Store, run_id: str, *, most_frames: int = MOST_FRAMES) -> RecordedRun:
    """A finished run of the store, of which only the pictures that are kept are read. Raises what `recorded` does."""
    record = store.run(run_id)
    if record is None:
        raise UnusableRecording(f"There is no run {shorten(run_id)!r} to record; open one of the recent runs.")
    moments = [moment for moment in store.curve(run_id) if moment.attempt == record.attempt]
    chosen = [moments[i].n for i in evenly([moment.seconds for moment in moments], most_frames)]
    found = [pictures for n in chosen if (pictures := store.pictures(run_id, n)) is not None]
    snapshots = [
        Snapshot(
            step=moment.step, seconds=moment.seconds, loss=moment.loss, residual=moment.residual, labels=moment.labels,
            progress=moment.progress, images=np.stack(list(map(from_png, pictures))), score=moment.score,
        )
        for moment, pictures in found
    ]  # fmt: skip
    others = [event for event in store.history(run_id) if isinstance(event, get_args(Event))]
    return recorded(record.scenario, [*others, *snapshots], most_frames=most_frames)


def single(run: RecordedRun) -> Recording:
    """A run as a recording of its own, whose sentence is its outcome."""
    sentence = run.finished.sentence[:LONGEST_SENTENCE] or "A recorded attack."
    return Recording(name="recorded-attack", title="Recorded attack", sentence=sentence, page="live", runs=(run,))


def evenly(seconds: Sequence[float], most: int) -> list[int]:
    """Places of at most `most` of these ascending times, spread evenly from the first to the last.

    >>> evenly([0.0, 0.1, 0.2, 1.0, 2.0], 3)
    [0, 3, 4]
    """
    if len(seconds) <= most:
        return list(range(len(seconds)))
    times = np.asarray(seconds)
    wanted = np.linspace(times[0], times[-1], most)
    nearest = np.abs(times[None] - wanted[:, None]).argmin(1)
    nearest[0], nearest[-1] = 0, len(seconds) - 1  # of equal times too
    return sorted(set(nearest.tolist()))


def _frames(snapshots: Sequence[Snapshot], truth: GroundTruthKnown | None) -> tuple[RecordedFrame, ...]:
    private = np.stack(list(map(from_png, truth.pictures))) if truth and snapshots[-1].score else None
    means = _class_means(private, truth.labels) if truth and private is not None else None
    orders = _orders(snapshots)
    last = snapshots[-1]
    return tuple(
        _frame(snapshot, order, private, means, lossless=snapshot is last)
        for snapshot, order in zip(snapshots, orders, strict=True)
    )


def _orders(snapshots: Sequence[Snapshot]) -> list[tuple[int, ...]]:
    """For each snapshot which of its images comes first, second, ...: the order of the last with the same labels."""
    orders: list[tuple[int, ...]] = []
    following: Snapshot | None = None
    for snapshot in reversed(snapshots):
        if following is None or snapshot.labels != following.labels:
            score = snapshot.score
            order = score.places if score else tuple(range(len(snapshot.labels)))
        orders.append(order)
        following = snapshot
    return orders[::-1]


def _class_means(private: Images, labels: Sequence[int]) -> Images | None:
    """The mean of its class for each private image (B, C, H, W), None where no label repeats."""
    classes = np.array(labels)
    if len(set(labels)) == len(labels):
        return None
    return np.stack([private[classes == label].mean(0) for label in labels])


def _frame(
    snapshot: Snapshot, order: tuple[int, ...], private: Images | None, means: Images | None, *, lossless: bool
) -> RecordedFrame:
    images = to_8bit(snapshot.images[list(order)])
    score = snapshot.score if snapshot.score and snapshot.score.places == order else None
    rebuilt = images / np.float64(255)
    to_private = () if private is None else score.psnr if score else psnr(rebuilt, private)
    to_mean = () if means is None else score.psnr_to_mean if score else psnr(rebuilt, means)
    return RecordedFrame(
        step=snapshot.step,
        seconds=snapshot.seconds,
        residual=snapshot.residual,
        labels=tuple(snapshot.labels[place] for place in order),
        psnr=to_private,
        psnr_to_mean=to_mean,
        pictures=strip(images[:SHOWN], lossless=lossless),
    )


# ------------------------------------------------------------------------------------------------------- pictures


def strip(images: Pixels, *, lossless: bool) -> bytes:
    """Images (B, C, H, W) side by side as one WebP picture; large ones with loss unless `lossless`."""
    row = np.concatenate(list(images), axis=2)
    picture = Image.fromarray(row[0] if len(row) == 1 else row.transpose(1, 2, 0)).convert("RGB")
    buffer = io.BytesIO()
    if lossless or picture.width * picture.height <= LOSSLESS_PIXELS:
        picture.save(buffer, "WEBP", lossless=True, method=2)
    else:
        picture.save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    return buffer.getvalue()


def split(pictures: bytes, count: int) -> tuple[bytes, ...]:
    """The `count` images of a strip, as PNG bytes."""
    with Image.open(io.BytesIO(pictures), formats=("WEBP",)) as opened:
        row = opened.convert("RGB")
    width = row.width // count
    return tuple(_png(row.crop((i * width, 0, (i + 1) * width, row.height))) for i in range(count))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------- archives


def save(recording: Recording) -> bytes:
    """A recording as the bytes of a zip archive. Paths of image folders are shortened to the folder's name.

    Numbers that are not finite become texts that `load` reads as those numbers.
    """
    entries: dict[str, bytes] = {}
    runs = []
    for number, run in enumerate(recording.runs):
        values = asdict(run)
        values["scenario"] = _portable(run.scenario).model_dump(mode="json")
        for place, picture in enumerate((values["truth"] or {}).pop("pictures", ())):
            entries[f"private/{number}/{place:04d}.png"] = picture
        for place, frame in enumerate(values["frames"]):
            entries[f"frames/{number}/{place:04d}.webp"] = frame.pop("pictures")
        runs.append(values)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    texts = {"name": recording.name, "title": recording.title, "sentence": recording.sentence, "page": recording.page}
    return packed({"run.json": json.dumps(json_values(head | texts | {"runs": runs}, str)).encode(), **entries})


def _portable(scenario: Scenario) -> Scenario:
    """The same scenario without the place of its image folder on this machine."""
    return scenario if scenario.images is None else scenario.changed(images=Path(scenario.images).name or "images")


def load(source: bytes | Path) -> Recording:
    """The recording in an archive. Raises `UnusableRecording` with a sentence for anything else."""
    archive = Archive(_bytes_of(source), ENTRIES)
    values = _described(archive)
    for number, run in enumerate(values["runs"]):
        _fill_in_pictures(archive, number, run)
    try:
        recording = _adapter().validate_python(values)
    except ValidationError as error:
        raise UnusableRecording(_sentence(error)) from error
    for number, run in enumerate(recording.runs):
        _require_consistent(number, run)
    return recording


def _bytes_of(source: bytes | Path) -> bytes:
    """The archive's bytes; of a file that is too large only so many that it is seen to be."""
    if isinstance(source, bytes):
        return source
    try:
        with source.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UnusableRecording(f"{shorten(str(source))} cannot be read ({error.strerror}); {ADVICE}") from error


def _described(archive: Archive) -> dict[str, Any]:
    """The values in run.json as far as pictures can be added to them."""
    try:
        values = json.loads(archive.read("run.json"))
    except (ValueError, RecursionError) as error:
        raise UnusableRecording(f"run.json in the archive is no JSON text; {ADVICE}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UnusableRecording(f"run.json in the archive describes no recording; {ADVICE}")
    if values.get("format_version") != FORMAT_VERSION:
        raise UnusableRecording(
            f"The recording has format version {shorten(repr(values.get('format_version')))}; accepted is "
            f"{FORMAT_VERSION}, so make it again with this version of DeepLeak."
        )
    runs = values.get("runs")
    if not isinstance(runs, list) or not 1 <= len(runs) <= MOST_RUNS or not all(isinstance(r, dict) for r in runs):
        raise UnusableRecording(f"runs in the archive's run.json is no list of 1 to {MOST_RUNS} runs; {ADVICE}")
    return values


def _fill_in_pictures(archive: Archive, number: int, run: dict[str, Any]) -> None:
    """Add to the values of one run the bytes of its pictures, as many as its values call for."""
    frames, truth = run.get("frames"), run.get("truth")
    if not isinstance(frames, list) or not 1 <= len(frames) <= MOST_FRAMES_READ:
        raise UnusableRecording(
            f"Run {number + 1} of the archive has no list of 1 to {MOST_FRAMES_READ} frames; {ADVICE}"
        )
    for place, frame in enumerate(frames):
        if isinstance(frame, dict):
            frame["pictures"] = archive.read(f"frames/{number}/{place:04d}.webp")
    if isinstance(truth, dict) and isinstance(truth.get("labels"), list):
        names = [f"private/{number}/{place:04d}.png" for place in range(len(truth["labels"]))]
        truth["pictures"] = [archive.read(name) for name in names]


@cache
def _adapter() -> TypeAdapter[Recording]:
    return TypeAdapter(Recording)


def _sentence(error: ValidationError) -> str:
    """What is wrong with the first unusable value of run.json."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "run.json"
    return f"{shorten(where)} in the archive's run.json is unusable ({shorten(first['msg'])}); {ADVICE}"


def _require_consistent(number: int, run: RecordedRun) -> None:
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


# --------------------------------------------------------------------------------------------------------- gallery


def gallery(folder: Path = GALLERY) -> tuple[Head, ...]:
    """Heads of the recordings in a folder, in the order of their file names; unreadable files are left out."""
    heads = []
    for path in sorted(folder.glob("*.zip")):
        try:
            heads.append(_head(path))
        except DeepLeakError as error:
            logger.warning("%s is left out of the gallery: %s", path.name, error)
    return tuple(heads)


def gallery_recording(name: str, folder: Path = GALLERY) -> Recording:
    """The recording of that name in a folder. Raises `UnusableRecording` where there is none."""
    paths = {_name_of(path): path for path in sorted(folder.glob("*.zip"))}
    if name not in paths:
        raise UnusableRecording(f"There is no recording {shorten(name)!r}; accepted are {listed(list(paths), 20)}.")
    return load(paths[name])


def _name_of(path: Path) -> str:
    """The name of a recording, from that of its file, which may begin with a number for the order.

    >>> _name_of(Path("03-one-wrong-label.zip"))
    'one-wrong-label'
    """
    return re.sub(r"^\d+-", "", path.stem)


def _head(path: Path) -> Head:
    """What a list shows of an archive, from run.json and one frame."""
    archive = Archive(_bytes_of(path), ENTRIES)
    values = _described(archive)
    try:
        return Head(
            name=_name_of(path),
            title=values["title"],
            sentence=values["sentence"],
            page=values["page"],
            runs=tuple(_run_head(archive, number, run) for number, run in enumerate(values["runs"])),
            size=path.stat().st_size,
        )
    except (KeyError, TypeError, IndexError, OSError) as error:
        raise UnusableRecording(f"{path.name} is no complete recording; {ADVICE}") from error


def _run_head(archive: Archive, number: int, run: dict[str, Any]) -> RunHead:
    frames = run["frames"]
    pictures = archive.read(f"frames/{number}/{len(frames) - 1:04d}.webp")
    return RunHead(
        scenario=Scenario(**run["scenario"]),
        device=run["device"],
        seconds=run["finished"]["seconds"],
        pictures=split(pictures, min(len(frames[-1]["labels"]), SHOWN)),
    )
