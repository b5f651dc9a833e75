"""Draw one of the topics beside a result."""

from __future__ import annotations

import streamlit as st

from ui.drawings import drawing
from ui.how_it_works.levels import link_to
from ui.rendering import render
from ui.why.topics import TOPICS


def why(name: str) -> None:
    """A button that opens the topic `name` of `TOPICS`, for the end of a row of words."""
    topic = TOPICS[name]
    with st.popover("Why?", type="tertiary", icon=":material/help:", key=f"why-{name}"):
        picture = drawing(topic.drawing, topic.shows)
        st.html(render("why.html", sentence=topic.sentence, helps=topic.helps, drawing=picture))
        with st.expander("The formula"):
            st.markdown(topic.formula)
        st.html(render("why_more.html", link=link_to(topic.section)))
