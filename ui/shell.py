"""The frame around every page: whether `app.main` draws the running page, and what to do where it does not.

Streamlit treats a folder named `pages` as an app of its own until `st.navigation` has been called once. Therefore the
first visitor after a server start who opens the link of a page gets that page's script without `app.py`: no style
sheet, no navigation of ours. Every page begins with `within_app`, which then draws the app instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from deepleak_core.errors import DeepLeakError
from ui import messages, ownership

_drawing: ContextVar[bool] = ContextVar("deepleak_app_is_drawing", default=False)


@contextmanager
def drawing() -> Iterator[None]:
    """Mark that the code inside runs a page on behalf of `app.main`."""
    token = _drawing.set(True)
    try:
        yield
    finally:
        _drawing.reset(token)


def header(pages: Sequence[StreamlitPage]) -> None:
    """Draw links to all pages beside the logo, on every page and in every window the same."""
    with st.container(key="pages", horizontal=True, wrap=False, gap=None):
        for page in pages:
            st.page_link(page)


def run(page: StreamlitPage) -> None:
    """Run a page on behalf of `app.main`; what it cannot do is said in a sentence."""
    with drawing():
        try:
            page.run()
        except DeepLeakError as error:
            messages.error(str(error))
        ownership.offer_code()


def fragment(function: Callable[..., None], *, run_every: float | None = None) -> Callable[..., None]:
    """Streamlit's `fragment`; what it cannot do is said in a sentence, also when it is drawn again by itself."""

    @functools.wraps(function)
    def drawn(*args: Any) -> None:
        try:
            function(*args)
        except DeepLeakError as error:
            messages.error(str(error))

    return st.fragment(drawn, run_every=run_every)


def within_app() -> None:
    """Return where `app.main` runs this page; elsewhere draw the whole app, with this page in it, and stop."""
    if _drawing.get():
        return
    import app  # the only import from ui of what is built on it; at module level it would be circular

    app.main()
    st.stop()
