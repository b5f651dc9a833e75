"""The first row of every page: a sentence at the left, one place of fixed size for settings and buttons at the right.

Its columns are as wide before a run as during it and afterwards, so that nothing below moves. Draw what comes and goes
(the next action) first and what is always there last: the place is filled from its right end.

    row = top_row()
    with row.slot:
        st.button("Run", key="start")
    row.say("The images stay on the device. Can the server see them?")
    with row.why:
        why("fusion")
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from ui import pieces


@dataclass(frozen=True)
class TopRow:
    """The containers of the row: `words` for the sentence, `why` behind it, `slot` for settings and buttons."""

    words: DeltaGenerator
    why: DeltaGenerator
    slot: DeltaGenerator

    def say(self, sentence: str) -> None:
        """Draw the sentence."""
        self.words.html(pieces.headline(sentence))


def top_row() -> TopRow:
    """Make the row; what belongs into it can be drawn in any order."""
    with st.container(key="top-row"):
        words, why = st.container(), st.container(width="content")
        slot = st.container(
            key="slot", horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"
        )
    return TopRow(words, why, slot)
