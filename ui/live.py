"""A run on the page, while it goes on and afterwards. Whatever repeats here only reads the store.

During a run three fragments repeat by themselves: the pictures several times a second, the rest once or twice. Each
asks the store for one row and fetches the newest snapshot as the PNG bytes it is. At the end the whole page is
drawn once more, and nothing repeats any longer.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch
from deepleak_core.errors import DeepLeakError
from deepleak_core.events import (
    Downloading,
    FeaturesSeparated,
    Finished,
    LabelsInferred,
    LabelsRevised,
    Prepared,
    Stage,
    UpdateShared,
    png,
)
from deepleak_core.runs import export
from deepleak_core.runs.store import Moment, RunRecord
from deepleak_core.scenario import Scenario
from deepleak_core.scoring.score import pixels
from ui import markup
from ui.backend import engine, give_way, pace, store
from ui.charts import curves

PICTURE_SECONDS = 0.22
READING_SECONDS = 1.0
CURVE_SECONDS = 3.0
REMEMBERED = 12  # runs of which a session keeps what it has read
STOPS = 500  # snapshots of a long run that the replay offers
STARTING_SECONDS = 2.0  # a run that waits no longer than this is about to start, not in a queue


@dataclass(frozen=True)
class Facts:
    """What a run tells once, as far as it has."""

    prepared: Prepared | None = None
    shared: UpdateShared | None = None
    inferred: LabelsInferred | None = None


def facts_of(record: RunRecord) -> Facts:
    """The facts of a run; once they are complete the store is not asked again.

    The last to be told is asked for first: when that is there, so are those before.
    """
    key = (record.id, record.attempt)
    known = st.session_state.setdefault("facts", {})
    if key in known:
        return known[key]
    inferred, shared, prepared = (store().latest(record.id, kind) for kind in (LabelsInferred, UpdateShared, Prepared))
    facts = Facts(prepared, shared, inferred)
    if facts.inferred is not None:
        _remember(known, key, facts)
    return facts


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep what was read of a run; of no more runs than a page shows."""
    known.pop(key, None)
    known[key] = value
    while len(known) > REMEMBERED:
        del known[next(iter(known))]


def viewer() -> str:
    """This session's name among all that watch."""
    return st.session_state.setdefault("viewer", uuid.uuid4().hex)


# ------------------------------------------------------------------- what the client keeps, what the server sees


@st.cache_data(max_entries=200, ttl="10m", show_spinner=False)
def private_batch(choice: str) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """Pictures and labels that a scenario, as JSON, picks. Raises `DeepLeakError` where they cannot be had."""
    batch = load_batch(Scenario.from_json(choice))
    return tuple(map(png, pixels(batch.images))), tuple(batch.class_names[label] for label in batch.labels)


def preview(scenario: Scenario) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """The private batch of a scenario that has not run yet. Raises `DeepLeakError`."""
    fields = ("dataset", "images", "image_size", "indices", "labels", "batch_size", "composition", "seed")
    return private_batch(Scenario(**{name: getattr(scenario, name) for name in fields}).to_json())


def client(scenario: Scenario, prepared: Prepared | None = None, *, suspense: bool) -> str:
    """The private images, or tiles that hide them, or why they cannot be shown yet."""
    if suspense:
        return markup.hidden(scenario.batch_size)
    if prepared is not None:
        return markup.thumbnails(prepared.pictures, named(prepared, prepared.labels))
    try:
        return markup.thumbnails(*preview(scenario))
    except DeepLeakError as error:
        return markup.note(str(error))


def nothing_shared(scenario: Scenario | None) -> str:
    """What the server sees before there is an update."""
    try:
        return markup.nothing_shared(datasets.names_of_classes(scenario) if scenario else ())
    except DeepLeakError:
        return markup.nothing_shared(())


def client_and_server(run_id: str, suspense: bool) -> None:
    """Steps 1 and 2 of a run."""
    give_way()
    record = store().run(run_id)
    facts = facts_of(record)
    suspense = suspense and record.under_way
    seen = nothing_shared(record.scenario)
    if facts.shared is not None and facts.inferred is not None:
        names = facts.prepared.class_names
        mended = store().latest(run_id, LabelsRevised)
        used = mended.order if isinstance(mended, LabelsRevised) else facts.inferred.order
        seen = markup.update(facts.shared) + markup.labels(facts.inferred, used, names, suspense=suspense)
        if record.scenario.stage != "untrained":
            seen = markup.note(f"{facts.prepared.model_title}, {facts.prepared.stage_note}") + seen
    apart = ""
    if record.scenario.attack == "exact" and facts.prepared is not None:
        separated = store().latest(run_id, FeaturesSeparated)
        if isinstance(separated, FeaturesSeparated):
            apart = f"<section>{markup.separated(separated, facts.prepared.class_names)}</section>"
    kept = markup.step(1, client(record.scenario, facts.prepared, suspense=suspense))
    st.html(kept + apart + markup.step(2, seen))


# ------------------------------------------------------------------------------- what the attacker rebuilds


def rebuilding(run_id: str, attempt: int, suspense: bool, slowed: int) -> None:
    """Step 3 of a run under way; draws the whole page anew when the run is over or had to be started again.

    The same when the crowd has changed, so that its fragments repeat at the pace that it takes.
    """
    give_way()
    record = store().run(run_id)
    if not record.under_way or record.attempt > max(1, attempt) or pace(viewer()) != slowed:
        st.rerun()
    if not record.snapshots:
        return st.html(markup.step(3, waiting(record), markup.nothing_rebuilt(record.scenario.batch_size)))
    state, key = st.session_state, (run_id, record.snapshots, suspense)
    if state.get("frame", (None,))[0] != key:
        state.frame = key, _frame(record, suspense)
    return st.html(state.frame[1])


def replay(run_id: str) -> None:
    """Step 3 of a run that is over: any of its recorded snapshots."""
    record = store().run(run_id)
    moments = moments_of(run_id)
    if not moments:
        return st.html(markup.step(3, markup.progress(0, ""), markup.nothing_rebuilt(record.scenario.batch_size)))
    with st.container(gap=None):
        st.html(markup.step(3))
        n = last = len(moments) - 1
        if last > 0:
            offered = [*range(0, last, math.ceil(last / STOPS)), last]
            n = st.select_slider(
                "Replay", offered, value=last, key=f"moment-{run_id}", label_visibility="collapsed",
                format_func=lambda n: f"{moments[n].seconds:.1f} s, picture {n + 1} of {last + 1}",
            )  # fmt: skip
        moment, pictures = store().pictures(run_id, n)
        return st.html(_grid(moment, pictures, facts_of(record).prepared, suspense=False))


def end_of(record: RunRecord) -> Finished | None:
    """How a run ended; None while it has not, or where it has no outcome."""
    if record.under_way:
        return None
    known = st.session_state.setdefault("ends", {})
    if record.id not in known:
        _remember(known, record.id, store().latest(record.id, Finished))
    return known[record.id]


def stages(run_id: str) -> None:
    """What the attack of a run did, stage by stage, where it had more than one."""
    told = [stage for stage in store().events(run_id, Stage) if isinstance(stage, Stage)]
    if len(told) > 1:
        st.html(markup.stages(told))


def moments_of(run_id: str) -> list[Moment]:
    """The numbers of all snapshots so far; the store is asked only for those that are new."""
    known = st.session_state.setdefault("moments", {})
    moments = known.get(run_id, [])
    if news := store().curve(run_id, len(moments)):
        _remember(known, run_id, moments + news)
    return known.get(run_id, [])


def chart(run_id: str | None) -> None:
    """The curves of a run so far, empty ones without a run."""
    give_way()
    moments = moments_of(run_id) if run_id else []
    prepared = facts_of(store().run(run_id)).prepared if run_id else None
    titles = named(prepared, prepared.labels) if prepared else []
    curves(moments, titles)


def _frame(record: RunRecord, suspense: bool) -> str:
    moment, pictures = store().pictures(record.id)
    stage = store().latest(record.id, Stage)
    about = f" of about {moment.seconds / moment.progress:.0f} s" if moment.progress else ""
    return markup.step(
        3,
        markup.progress(
            moment.progress,
            f"{moment.seconds:.1f} s{about}",
            f"iteration {moment.step}, {moment.mean_psnr:.1f} dB on average",
        ),
        _grid(moment, pictures, facts_of(record).prepared, suspense=suspense),
        markup.note(stage.sentence if isinstance(stage, Stage) else ""),
    )


def _grid(moment: Moment, pictures: Sequence[bytes], prepared: Prepared, *, suspense: bool) -> str:
    wrong = [] if suspense else [a != b for a, b in zip(moment.labels, prepared.labels, strict=True)]
    return markup.rebuilt(pictures, named(prepared, moment.labels), moment.psnr, wrong)


def waiting(record: RunRecord) -> str:
    """Why there is no picture yet."""
    if record.status == "running":
        download = store().latest(record.id, Downloading) if record.events else None
        if isinstance(download, Downloading) and record.events and facts_of(record).prepared is None:
            done = download.bytes_done / download.bytes_total if download.bytes_total else None
            total = f" of {download.bytes_total / 1e6:.0f}" if download.bytes_total else ""
            return markup.progress(done, f"Downloading {download.dataset}: {download.bytes_done / 1e6:.0f}{total} MB")
        return markup.progress(0, "The client shares its update")
    place = store().position(record.id) or 1
    if place == 1 and not engine().ready:
        return markup.progress(0, "The worker is getting ready")
    if place == 1 and time.time() - record.created < STARTING_SECONDS:
        return markup.progress(0, "Starting")
    return markup.progress(0, "Waiting for a free worker" if place == 1 else f"Waiting, place {place} in the queue")


def named(prepared: Prepared, labels: Sequence[int]) -> list[str]:
    """The names of these classes."""
    return [prepared.class_names[label] for label in labels]


# ----------------------------------------------------------------------------------------------- downloads


@st.cache_data(max_entries=20, show_spinner=False)
def picture_sheet(run_id: str) -> bytes:
    """The private and the last rebuilt pictures of a finished run on one PNG."""
    prepared = store().latest(run_id, Prepared)
    moment, pictures = store().pictures(run_id)
    titles = named(prepared, prepared.labels)
    captions = [f"{title} {psnr:.1f} dB" for title, psnr in zip(titles, moment.psnr, strict=True)]
    return export.sheet(prepared.pictures, pictures, captions)


@st.cache_data(max_entries=20, show_spinner=False)
def figures(run_id: str) -> str:
    """The outcome of a finished run as JSON text."""
    record = store().run(run_id)
    return json.dumps(export.summary(record.scenario, store().history(run_id)), indent=1)


def downloads(run_id: str, finished: Finished) -> None:
    """The run to take away, and what its numbers mean."""
    st.html(
        markup.note(
            f"Pure noise in place of these pictures has {finished.noise_psnr:.0f} dB. From {markup.CLEAR:.0f} dB a "
            f"picture is recognisable, from {markup.PHOTOGRAPH:.0f} dB it looks like a photograph."
        )
    )
    with st.container(horizontal=True):
        st.download_button(
            "Pictures (PNG)", lambda: picture_sheet(run_id), f"deepleak-{run_id}.png", "image/png",
            icon=":material/image:", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            "Figures (JSON)", lambda: figures(run_id), f"deepleak-{run_id}.json", "application/json",
            icon=":material/data_object:", on_click="ignore",
        )  # fmt: skip
