"""Recent runs as cards with real links: thumbnails, what was attacked, and how many images came back."""

from __future__ import annotations

import io
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import streamlit as st
from PIL import Image

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.events import Outcome, in_private_order
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.store import RunRecord
from ui import ownership, records, visitor
from ui.backend import keeping, store
from ui.controls.images import MODES
from ui.rendering import base64_of, render

RECENT = 8  # runs in the list
THUMBS, THUMB = 4, 48  # images of a run that are shown, pixels of one


@dataclass(frozen=True)
class _Card:
    id: str
    picture: str  # WebP as base64 text, empty where there is no picture yet
    title: str
    about: str
    outcome: str
    best: str  # the best outcome of an image, for the style
    alt: str
    kept: bool  # not forgotten by age or for space


def draw() -> None:
    """The newest runs of this visitor, of all visitors for the presenter, and for how long they are kept."""
    everybody = ownership.is_presenter()
    runs = store().runs(limit=RECENT, visitor=None if everybody else visitor.identity())
    if runs:
        title = "Recent runs of all visitors" if everybody else "Your recent runs"
        st.html(render("recent.html", title=title, cards=[_card(run) for run in runs], kept=keeping().sentence()))


def _card(record: RunRecord) -> _Card:
    counts = _counts(record)
    outcome = ", ".join([*(f"{count} {verdict}" for verdict, count in counts.items()), *_state(record, counts)])
    title, picture = _title(record), _thumbs(record.id, record.snapshots)
    return _Card(
        id=record.id, picture=picture, title=title, about=_about(record), outcome=outcome,
        best=next(iter(counts), "").replace(" ", "-"), alt=f"Rebuilt images: {outcome}",
        kept=record.kept,
    )  # fmt: skip


def _title(record: RunRecord) -> str:
    """What was attacked."""
    scenario = record.scenario
    wrong = scenario.wrong_labels or len(scenario.mislabel or ())
    words = f"{scenario.batch_size} image{'s' * (scenario.batch_size > 1)}, {MODES[scenario.mode]}"
    return words + (f", {wrong} wrong label{'s' * (wrong > 1)}" if wrong else "")


def _about(record: RunRecord) -> str:
    """When, how, and on which network."""
    scenario, when = record.scenario, time.strftime("%H:%M", time.localtime(record.created))
    stage = "" if scenario.stage == "untrained" else f", {scenario.stage}"
    return f"{when} {_named(ATTACKS, scenario.attack)}, {_named(MODELS, scenario.model)}{stage}"


def _named(registry: Mapping[str, Any], name: str) -> str:
    """The title of an entry; its name where this version does not have it."""
    return str(registry[name].title) if name in registry else name


def _counts(record: RunRecord) -> dict[str, int]:
    """How many images have each verdict, the best first; empty before the end and without a ground truth."""
    end = records.end_of(record)
    found = Counter(end.score.outcomes if end and end.score else ())
    return {verdict: found[verdict] for verdict in get_args(Outcome) if found[verdict]}


def _state(record: RunRecord, counts: Mapping[str, int]) -> list[str]:
    """What there is to say beside the verdicts, or in their place where a run has none."""
    end = records.end_of(record)
    if end is None or (end.score is not None and not counts):
        return [record.status]
    matched = [f"{100 * end.residual:.0f} % not matched"] if end.score is None else []
    return matched + (["stopped early"] if record.status == "stopped" else [])


@st.cache_data(max_entries=100, show_spinner=False)
def _thumbs(run_id: str, snapshots: int) -> str:
    """The first images of the last snapshot in a square, as base64 text; empty without a snapshot."""
    found = store().pictures(run_id) if snapshots else None
    if found is None:
        return ""
    moment, pictures = found
    return _square(in_private_order(pictures, moment.score)[:THUMBS])


def _square(pictures: Sequence[bytes]) -> str:
    columns = math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("RGBA", (columns * THUMB, math.ceil(len(pictures) / columns) * THUMB))
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        tile = Image.open(io.BytesIO(picture)).convert("RGB").resize((THUMB, THUMB), Image.Resampling.NEAREST)
        sheet.paste(tile, (column * THUMB, row * THUMB))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=85)
    return base64_of(file.getvalue())
