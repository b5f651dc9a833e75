"""What pages read from the store: facts of a run, its moments, its pictures, its outcome; read once for all viewers.

Viewers only read. A page that asks repeatedly reads one row by its key, together with all who ask at about the same
time, and fetches what none of them has yet.
Values are in the order of the private images where these are known, else in the attacker's order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import streamlit as st

from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch
from deepleak_core.errors import DeepLeakError, UnusableRecording
from deepleak_core.events import (
    Downloading,
    FinalScore,
    Finished,
    GroundTruthKnown,
    LabelsInferred,
    Prepared,
    Score,
    Stage,
    UpdateShared,
    in_private_order,
    png,
)
from deepleak_core.runs.recording import RecordedRun, recorded_from
from deepleak_core.runs.store import Moment, RunRecord
from deepleak_core.scenario import Scenario
from ui.backend import engine, store

REMEMBERED = 48  # runs of which is kept what was read
SHARED_SECONDS = 0.1  # for which viewers share one look at a run under way
STARTING_SECONDS = 2.0  # a run that waits no longer than this is about to start


@dataclass(frozen=True)
class Facts:
    """What a run reports once, as far as it has: `truth` is None where the private batch is unknown."""

    prepared: Prepared | None = None
    truth: GroundTruthKnown | None = None
    shared: UpdateShared | None = None
    inferred: LabelsInferred | None = None

    def names(self, labels: Sequence[int]) -> list[str]:
        """The names of these classes."""
        return [self.prepared.class_names[label] if self.prepared else str(label) for label in labels]


@dataclass(frozen=True)
class Frame:
    """The pictures of one moment of an attack.

    `titles` are the names of the classes that the attacker assumes for them. `wrong`, empty without a ground truth,
    says whose label differs from the private image's. `end` is the final score, at the last moment of a run.
    """

    moment: Moment
    pictures: tuple[bytes, ...]
    titles: tuple[str, ...]
    wrong: tuple[bool, ...] = ()
    end: FinalScore | None = None

    @property
    def score(self) -> Score | None:
        """The score of this moment, None without a ground truth."""
        return self.moment.score

    @property
    def psnr(self) -> tuple[float, ...]:
        """PSNR of each image in dB, empty without a ground truth."""
        return self.score.psnr if self.score else ()

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The verdict on each image, by the rule of `scoring.sentences`; empty before the end of a run."""
        return self.end.outcomes if self.end else ()


@st.cache_resource(ttl=SHARED_SECONDS, max_entries=500, show_spinner=False)
def glance(run_id: str) -> RunRecord | None:
    """A run as it was at most `SHARED_SECONDS` ago; None where there is none."""
    return store().run(run_id)


def facts_of(record: RunRecord) -> Facts:
    """The facts of a run; once they are complete the store is not asked again."""
    key, known = (record.id, record.attempt), _known("facts")
    if key in known:
        found: Facts = known[key]
        return found
    inferred = store().latest(record.id, LabelsInferred)  # the last event first: it implies the others
    shared, truth = store().latest(record.id, UpdateShared), store().latest(record.id, GroundTruthKnown)
    facts = Facts(store().latest(record.id, Prepared), truth, shared, inferred)
    if inferred is not None:
        _remember(known, key, facts)
    return facts


def frame_of(record: RunRecord, n: int = -1) -> Frame | None:
    """The `n`-th moment of a run with its pictures, by default the last; None where there is none yet."""
    found, facts = store().pictures(record.id, n), facts_of(record)
    if found is None or facts.prepared is None:
        return None
    moment, pictures = found
    labels, end = in_private_order(moment.labels, moment.score), end_of(record)
    truth = facts.truth.labels if facts.truth and moment.score else ()
    last = end is not None and end.score is not None and moment.n == record.snapshots - 1
    return Frame(
        moment=moment,
        pictures=in_private_order(pictures, moment.score),
        titles=tuple(facts.names(labels)),
        wrong=tuple(assumed != true for assumed, true in zip(labels, truth, strict=False)),
        end=end.score if end is not None and last else None,
    )


def moments_of(run_id: str) -> list[Moment]:
    """The numbers of all snapshots so far; the store is asked only for new ones."""
    known = _known("moments")
    moments: list[Moment] = known.get(run_id, [])
    if news := store().curve(run_id, len(moments)):
        moments = moments + news
        _remember(known, run_id, moments)
    return moments


def baselines(score: FinalScore | None) -> dict[str, float]:
    """PSNR in dB, by name, that is reached without any reconstruction; nothing without a ground truth."""
    return {"flat grey image": score.grey_psnr, "random noise": score.noise_psnr} if score else {}


def end_of(record: RunRecord) -> Finished | None:
    """How a run ended; None while it has not, or where it has no outcome."""
    if record.under_way:
        return None
    known = _known("ends")
    end: Finished | None = known.get(record.id) or store().latest(record.id, Finished)
    if end is not None:
        _remember(known, record.id, end)
    return end


def recording_of(record: RunRecord) -> RecordedRun | None:
    """A finished run as a recording; None while it is under way, or where there is no picture to play."""
    try:
        return None if record.under_way else _recording(record.id)
    except UnusableRecording:  # not remembered: the outcome of a run that is stopped may come after its end
        return None


@st.cache_data(max_entries=20, show_spinner=False)
def _recording(run_id: str) -> RecordedRun:
    return recorded_from(store(), run_id)


def stages_of(run_id: str) -> list[Stage]:
    """The stages of an attack so far."""
    return store().events(run_id, Stage)


def hindrances(*runs: RunRecord) -> tuple[str, ...]:
    """Why runs cannot begin, each sentence once."""
    found = (engine().hindrance(run.id) for run in runs if run.under_way)
    return tuple(dict.fromkeys(filter(None, found)))


def why_waiting(record: RunRecord) -> tuple[float | None, str]:
    """Why there is no picture yet: a share in [0, 1] that is done, None where it is unknown, and words."""
    if hindrances(record):
        return 0, "Waiting for a worker"
    if record.status == "running":
        download = store().latest(record.id, Downloading) if record.events else None
        if download is not None and facts_of(record).prepared is None:
            total = f" of {download.bytes_total / 1e6:.0f}" if download.bytes_total else ""
            done = download.bytes_done / download.bytes_total if download.bytes_total else None
            return done, f"Downloading {download.dataset}: {download.bytes_done / 1e6:.0f}{total} MB"
        return 0, "The client computes its update"
    place = engine().position(record.id) or store().position(record.id) or 1
    if place > 1:
        return 0, f"Waiting, place {place} in the queue"
    if not engine().ready:
        return 0, "The worker is starting"
    starting = time.time() - record.created < STARTING_SECONDS
    return 0, "Starting" if starting else "Waiting for a free worker"


# ----------------------------------------------------------------------------------------- before there is a run


@st.cache_data(max_entries=200, ttl="10m", show_spinner=False)
def _private_batch(choice: str) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    batch = load_batch(Scenario.from_json(choice))
    return tuple(map(png, batch.images.numpy())), tuple(batch.class_names[label] for label in batch.labels)


def private_batch(scenario: Scenario) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """Pictures and labels of a scenario's private batch, run or not. Raises `DeepLeakError`."""
    fields = ("dataset", "images", "image_size", "indices", "labels", "batch_size", "composition", "seed")
    return _private_batch(Scenario(**{name: getattr(scenario, name) for name in fields}).to_json())


def class_names(scenario: Scenario) -> Sequence[str]:
    """The classes of a scenario's data set, none where they are unknown."""
    try:
        return datasets.names_of_classes(scenario)
    except DeepLeakError:
        return ()


# ------------------------------------------------------------------------------------------------ what is remembered


@st.cache_resource(show_spinner=False)
def _known(what: str) -> dict[Any, Any]:
    """What was read of runs, for all sessions. Values are replaced, never changed: threads share them."""
    return {}


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep what was read of a run, of the latest ones only."""
    known.pop(key, None)
    known[key] = value
    while len(known) > REMEMBERED:
        with suppress(KeyError, RuntimeError, StopIteration):  # another thread was faster
            del known[next(iter(known))]
