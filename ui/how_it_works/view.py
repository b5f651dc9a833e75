"""The control of the level, and one function that draws each kind of level."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from ui.drawings import drawing
from ui.how_it_works import figures
from ui.how_it_works.levels import LEVELS, PICTURES, Section, anchors, text_of
from ui.rendering import render


def level() -> str:
    """The level that the visitor picks, kept in the address as `level`."""
    chosen = st.segmented_control(
        "Level", list(LEVELS), default="picture", required=True, key="level", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    return chosen or "picture"


def pictures() -> None:
    """One large drawing after the other, each below its sentence."""
    shown = [(picture, drawing(picture.drawing, picture.shows)) for picture in PICTURES]
    with st.container(key="drawings"):
        st.html(render("drawings.html", pictures=shown))


def sections(level: str, chapters: Sequence[Section]) -> None:
    """Headings that can be linked to, text at the left and figures at the right."""
    st.markdown("  ·  ".join(f"[{chapter.title}](#{chapter.anchor})" for chapter in chapters))
    for chapter in chapters:
        st.header(chapter.title, anchor=chapter.anchor, divider="gray")
        left, right = st.columns([6, 5], gap="large")
        left.markdown(text_of(level, chapter.anchor))
        with right:
            for name in chapter.figures:
                getattr(figures, name)()


def questions() -> None:
    """Questions people ask, and where the figures come from."""
    with st.expander("Questions people ask"):
        st.markdown(text_of("words", "questions"))


def end() -> None:
    """Where the figures come from; leads a link to a section of another level there."""
    st.caption(figures.machine())
    elsewhere = {anchor: other for other in reversed(LEVELS) for anchor in anchors(other)}
    st.html(render("scroll_to_section.html", elsewhere=elsewhere), unsafe_allow_javascript=True)
