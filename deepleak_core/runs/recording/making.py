"""Recorded runs, made from the events of a run: at most `MOST_FRAMES` frames, in the order of the private images.

That order is fixed from the last frame, so no two pictures change places. Where the attack replaces its labels, its
images are others from then on, and each part has the order of its own last frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from deepleak_core.errors import UnusableRecording
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
from deepleak_core.runs.recording.kept import LONGEST_SENTENCE, SHOWN, RecordedFrame, RecordedRun, Recording
from deepleak_core.runs.recording.strips import strip
from deepleak_core.scenario import Scenario
from deepleak_core.scoring.pictures import psnr
from deepleak_core.text import shorten
from deepleak_core.version import VERSION

if TYPE_CHECKING:
    from deepleak_core.runs.store import Store

MOST_FRAMES = 60  # of one run


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
