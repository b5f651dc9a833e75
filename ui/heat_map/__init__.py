"""A table of figures whose cells are buttons, shaded by their value; drawn by the browser, usable by keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from deepleak_core.text import json_values
from ui import scripts
from ui.rendering import base64_of

FOLDER = Path(__file__).parent

_component = st.components.v2.component(
    "deepleak_heat_map",
    css=(FOLDER / "heat_map.css").read_text(encoding="utf-8"),
    js=(FOLDER / "heat_map.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure: `value` shades the cell, None where it is awaited; `text` and the small `note` stand in it.

    A cell with an `id` is a button, described by `words`.
    """

    id: str = ""
    value: float | None = None
    text: str = ""
    note: str = ""
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row with its title, a small picture beside it, and one cell for each column."""

    title: str
    picture: bytes
    cells: tuple[Cell, ...]


def heat_map(
    rows: Sequence[Row],
    columns: Sequence[str],
    *,
    key: str,
    caption: str,
    corner: str = "",
    chosen: str = "",
    marked: Sequence[str] = (),
    mark: str = "",
    locked: bool = False,
) -> str | None:
    """Draw the table; the id of the cell that was just pressed, else None.

    `caption` says what it shows, `corner` what its rows and columns are. The cell with the id `chosen` has a frame,
    those with an id in `marked` have `mark` as a small word. `locked` cells can be read but not pressed.
    """
    data = {
        "rows": [_row(row) for row in rows],
        "columns": list(columns),
        "caption": caption,
        "corner": corner,
        "chosen": chosen,
        "marked": list(marked),
        "mark": mark,
        "locked": locked,
    }
    result = _component(key=key, data=json_values(data), on_pressed_change=scripts.ignore)
    pressed: str | None = result.get("pressed")
    return pressed


def _row(row: Row) -> dict[str, object]:
    picture = base64_of(row.picture)
    return {"title": row.title, "picture": picture, "cells": [vars(cell) for cell in row.cells]}
