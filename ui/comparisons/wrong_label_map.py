"""The map of every possible wrong label: recorded, or computed row by row when a visitor asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from deepleak_core.errors import DeepLeakError
from deepleak_core.events import WrongLabelTried
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from deepleak_core.studies import wrong_labels
from deepleak_core.studies.wrong_labels import CORRECT, WrongLabelMap, WrongLabelRow
from ui import messages, ownership, records, shell
from ui.backend import give_way, pace, store
from ui.heat_map import Cell, Row, heat_map

LOOK_SECONDS = 1.0  # between looks at the store while a map is computed
TITLE = "Every possible wrong label"
MINUS = "\N{MINUS SIGN}"


def draw(scenario: Scenario, chosen: str, *, locked: bool) -> str | None:
    """The map of a scenario's attack, or the button that computes it; the wrong label that was just picked."""
    st.subheader(TITLE, anchor=False)
    found = wrong_labels.recorded(scenario)
    if found is not None:
        return _table(found, chosen, locked=locked)
    try:
        found = wrong_labels.empty_map(scenario)
    except DeepLeakError as error:
        st.html(messages.note(str(error)))
        return None
    return _computed(found, chosen, locked)


def _computed(found: WrongLabelMap, chosen: str, locked: bool) -> str | None:
    """A map as far as it is computed, and the button that computes the rest."""
    rows = wrong_labels.rows_of(found)
    asked = _asked(rows)
    going = any(run.under_way for run in asked)
    if len(asked) < len(rows) or not all(run.under_way or run.status == "finished" for run in asked):
        words = f"Compute all {len(found.swaps)}: {found.scenario.max_iterations} iterations each"
        st.button(words, key="map", icon=":material/grid_on:", on_click=ownership.study, args=(rows,), disabled=locked)
    if not asked:
        return None
    shell.fragment(_watch, run_every=LOOK_SECONDS * pace() if going else None)(found, chosen, locked, going)
    picked: str | None = st.session_state.pop("picked_cell", None)
    return picked


def _asked(rows: Sequence[WrongLabelRow]) -> list[RunRecord]:
    return list(store().studies([row.key for row in rows]).values())


def _watch(found: WrongLabelMap, chosen: str, locked: bool, going: bool) -> None:
    give_way()
    runs = _asked(wrong_labels.rows_of(found))
    if going and not any(run.under_way for run in runs):
        st.rerun()
    tried = {one.swap: one for run in runs for one in store().events(run.id, WrongLabelTried)}
    found = replace(found, tried=tried)
    if going:
        done, total = len(tried), len(found.swaps) + 1
        st.progress(done / total, f"{done} of {total} attacks")
    picked = _table(found, chosen, locked=locked)
    if picked is not None:
        st.session_state.picked_cell = picked
        st.rerun()


def _table(found: WrongLabelMap, chosen: str, *, locked: bool) -> str | None:
    images, labels = records.private_batch(found.scenario)
    rows = []
    for label in found.labels:
        name = found.class_names[label]
        several = f" (1 of {labels.count(name)})" if labels.count(name) > 1 else ""
        cells = tuple(_cell(found, label, other) for other in range(len(found.class_names)))
        rows.append(Row(title=name + several, picture=images[labels.index(name)], cells=cells))
    return heat_map(
        rows, found.class_names, key="every-wrong-label", caption=_caption(found), corner="is \\ labelled as",
        chosen=chosen, marked=found.worst, mark="worst", locked=locked,
    )  # fmt: skip


def _caption(found: WrongLabelMap) -> str:
    correct = found.tried.get(CORRECT)
    reached = f" With all labels correct, the average is {correct.mean_psnr:.0f} dB." if correct else ""
    return (
        f"The large number: how many dB one wrong label costs on average, after {found.scenario.max_iterations} "
        f"iterations. Below it: how many images stay recognisable.{reached} Press a cell to see its attack."
    )


def _cell(found: WrongLabelMap, label: int, other: int) -> Cell:
    swap = found.swap(label, other)
    if not swap:
        return Cell(text="correct")
    words, loss = wrong_labels.in_words(swap), found.loss(swap)
    if loss is None:
        return Cell(id=swap, text="\N{HORIZONTAL ELLIPSIS}", words=f"{words}: not computed yet")
    one = found.tried[swap]
    seen = f"{one.recognisable} of {len(one.psnr)}"
    return Cell(
        id=swap, value=loss, text=f"{loss:.0f}".replace("-", MINUS), note=seen,
        words=f"{words}: {loss:.0f} dB lost, {seen} images recognisable",
    )  # fmt: skip
