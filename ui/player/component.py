"""The player as a Streamlit component: a picture and timeline element, and beside it the feed of what is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from ui import scripts
from ui.player import payload
from ui.player.parts import Click, Column

ABOVE = "var(--dl-tour, 0rem)"  # height of the tour's bar above a page, where there is one; for the heights of players
FOLDER = Path(__file__).parent
MODULES = ("dom", "model", "pictures", "grid", "timeline", "columns", "player")  # each after those that it imports from

_player = st.components.v2.component(
    "deepleak_player",
    css=(FOLDER / "player.css").read_text(encoding="utf-8"),
    js=scripts.joined(*(FOLDER / f"{name}.js" for name in MODULES)),
)
_feed = st.components.v2.component("deepleak_feed", js=(FOLDER / "feed.js").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Drawing:
    """Columns as they travel to a browser: `still`, and the `news` that belong to it. Sessions may share it."""

    still: Mapping[str, Any]
    news: Mapping[str, Any]


def drawing(
    columns: Sequence[Column], *, autoplay: bool = False, loop: bool = False, height: str | None = None
) -> Drawing:
    """What `show` draws, see `play` for the arguments."""
    still = payload.still(columns, autoplay=autoplay, loop=loop, height=height)
    return Drawing(still, payload.news(columns, still["stamp"]))


def play(
    columns: Sequence[Column], *, key: str, autoplay: bool = False, loop: bool = False, height: str | None = None
) -> Click | None:
    """Draw the columns side by side with one clock and one timeline; what a visitor has just picked in a menu.

    Columns of as many pictures have the same rows and columns, in the size that the narrowest of them has room for.
    Recordings play at once where `autoplay` says so and the visitor has not asked for reduced motion, else they stand
    at their end. While a run is under way, call this again now and then with the newest `LiveFrame` and the same `key`;
    it then costs the newest pictures only. Moments between come through the `stream` of a track; where that says that
    the page is outdated, the fragment that called this is drawn again. `height` is a CSS length for the whole; by
    default it fills the window below the page's header and sentence.
    """
    return show(drawing(columns, autoplay=autoplay, loop=loop, height=height), key=key)


def show(drawn: Drawing, *, key: str) -> Click | None:
    """Draw what was made before, perhaps for another session, see `play`."""
    with st.container(gap=None, key=f"player-{key}"):
        result = _player(key=key, data={**drawn.still, "key": key}, on_click_change=scripts.ignore)
        _feed(key=f"{key}-feed", data={**drawn.news, "key": key}, on_outdated_change=scripts.ignore)
    click = result.get("click")
    return Click(column=click["column"], image=click["image"], choice=click["choice"]) if click else None
