"""The recordings of the gallery as cards with large thumbnails."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from deepleak_core.runs.recording import Head
from ui import recordings
from ui.cards import Card, cards
from ui.gallery import choice
from ui.messages import plain
from ui.rendering import base64_of, render

WIDEST = 8  # pictures side by side on a card


def grid() -> None:
    """All recordings; a click anywhere on a card plays it."""
    with st.container(key="gallery"):
        for head in recordings.heads():
            with st.container(key=f"card-{head.name}", gap=None):
                rows = _rows([run.pictures for run in head.runs])
                columns = max(map(len, rows))
                st.html(render("mosaic.html", rows=[[base64_of(p) for p in row] for row in rows], columns=columns))
                st.button(
                    plain(head.title), key=f"play-{head.name}", type="tertiary", on_click=choice.show, args=(head.name,)
                )
                st.html(render("recording.html", sentence=head.sentence, facts=_facts(head)))


def others(current: str) -> None:
    """All recordings as a strip, to go on from the one that plays."""
    items = [
        Card(id=head.name, title=head.title, pictures=head.pictures, note=_facts(head)) for head in recordings.heads()
    ]
    picked = cards(items, key="other-recordings", chosen=current)
    if picked is not None and picked != current:
        choice.show(picked)
        st.rerun()


def _facts(head: Head) -> str:
    """How many images a recording has, how many attacks, and how long it plays at their own speed."""
    images, runs = len(head.runs[0].pictures), len(head.runs)
    attacks = f"{runs} attacks side by side, {head.seconds:.0f} s" if runs > 1 else f"{head.seconds:.0f} s of attack"
    return f"{images} image{'s' if images > 1 else ''}, {attacks}"


def _rows(runs: Sequence[Sequence[bytes]]) -> list[list[bytes]]:
    """The pictures of one run in a square, those of several runs in a row each.

    >>> _rows([[b"1", b"2", b"3", b"4"]])
    [[b'1', b'2'], [b'3', b'4']]
    """
    if len(runs) > 1:
        return [list(pictures[:WIDEST]) for pictures in runs]
    (pictures,) = runs
    columns = min(WIDEST, math.ceil(math.sqrt(len(pictures))))
    return [list(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
