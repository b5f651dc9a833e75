"""Recorded runs in one line each, to be opened again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import streamlit as st

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.data.datasets import DATASETS
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.store import RunRecord
from ui import visitor
from ui.backend import store
from ui.controls.images import MODES
from ui.live import session

RECENT = 8  # runs in the list


def draw() -> None:
    """The newest runs as buttons."""
    with st.expander("Recent runs", icon=":material/history:"):
        for recent in store().runs(limit=RECENT, first=visitor.token()):
            st.button(
                described(recent), key=f"open-{recent.id}", on_click=session.show, args=(recent.id,), type="tertiary"
            )


def described(record: RunRecord) -> str:
    """When a run was started, what it attacked, and how it went."""
    scenario = record.scenario
    when = time.strftime("%H:%M", time.localtime(record.created))
    images = f"{scenario.batch_size} image{'s' if scenario.batch_size > 1 else ''}"
    wrong = scenario.wrong_labels or len(scenario.mislabel or ())
    images += f", {wrong} wrong label{'s' if wrong > 1 else ''}" if wrong else ""
    dataset, attack = _title(DATASETS, scenario.dataset), _title(ATTACKS, scenario.attack)
    client = f"{dataset}, {images}, {MODES[scenario.mode]}, {_title(MODELS, scenario.model)}, {scenario.stage}"
    return f"{when} {attack}: {client} ({record.status})"


def _title(registry: Mapping[str, Any], name: str) -> str:
    """The title of an entry; its name where this version does not have it."""
    return str(registry[name].title) if name in registry else name
