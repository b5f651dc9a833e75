"""Runs of visitors: studies that one asks for, and who may stop, keep and forget a run.

That is who started it, and the presenter, by a code.
"""

from __future__ import annotations

import hmac
import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import streamlit as st

from deepleak_core.environment import PRESENTER_CODE
from deepleak_core.errors import DeepLeakError
from ui import messages, pieces, visitor

if TYPE_CHECKING:
    from deepleak_core.runs.store import RunRecord
    from deepleak_core.runs.tasks import Task

MOST_TRIES, TRIES_SECONDS = 10, 600.0  # wrong codes of all visitors together, within this time
SECOND_CLICK_SECONDS = 1.5  # after a click on Stop
REFUSED = "This is not the code of the presenter."
TOO_MANY = "Too many wrong codes were tried; wait ten minutes."


def study(studies: Iterable[Task]) -> None:
    """Have studies computed that are not yet, whoever asks first; what goes wrong is kept for the page to say."""
    from ui.backend import engine  # imports PyTorch

    try:
        for each in studies:
            engine().study(each, visitor=visitor.identity())
    except DeepLeakError as error:
        st.session_state.problems = (str(error),)


def is_own(run: RunRecord) -> bool:
    """Whether this visitor has started a run, or may do all that its owner may."""
    return is_presenter() or hmac.compare_digest(run.visitor, visitor.identity())


def may_stop(*runs: RunRecord) -> bool:
    """Whether this visitor may stop one of these runs, as far as they are under way."""
    return any(run.under_way and is_own(run) for run in runs)


def stop(runs: Iterable[RunRecord]) -> None:
    """Stop those of the runs that this visitor may stop; what goes wrong is kept for the page to say."""
    from ui.backend import engine  # imports PyTorch

    for run in runs:
        if may_stop(run):
            st.session_state.stopped_at = time.monotonic()
            try:
                engine().stop(run.id, visitor=_asking())
            except DeepLeakError as error:
                st.session_state.problems = (str(error),)


def has_just_stopped() -> bool:
    """Whether a click may be the second one of an impatient visitor on Stop, whose place another button has taken."""
    stopped: float = st.session_state.get("stopped_at", -math.inf)
    return time.monotonic() - stopped < SECOND_CLICK_SECONDS


def forget(run_id: str) -> None:
    """Delete a run and all that was read of it; what goes wrong is kept for the page to say."""
    from ui.backend import engine  # imports PyTorch

    try:
        engine().forget(run_id, visitor=_asking())
    except DeepLeakError as error:
        st.session_state.problems = (str(error),)
        return
    st.cache_data.clear()  # pictures of it too; others are read again


def keep(run_id: str, kept: bool) -> None:
    """Except a run from being forgotten by itself, or no longer; what goes wrong is kept for the page to say."""
    from ui.backend import engine  # imports PyTorch

    try:
        engine().keep(run_id, kept, visitor=_asking())
    except DeepLeakError as error:
        st.session_state.problems = (str(error),)


def _asking() -> str | None:
    """In whose name the engine is asked: None for the presenter, who may do all."""
    return None if is_presenter() else visitor.identity()


def is_presenter() -> bool:
    """Whether this visitor's browser has given the code since the server started, and not handed it back."""
    return visitor.identity() in _presenters()


@st.cache_resource(show_spinner=False)
def _presenters() -> set[str]:
    """The identities of the visitors who have given the code."""
    return set()


def offer_code() -> None:
    """Where the server has a code (`DEEPLEAK_PRESENTER_CODE`), a place to give it, and for a presenter to say so."""
    if not PRESENTER_CODE.value():
        return
    if is_presenter():
        with st.popover("You are the presenter", icon=":material/co_present:", key="presenter-place"):
            st.html(pieces.note("You see every run, and may stop, keep and forget it."))
            st.button("Be a visitor again", key="presenter-leave", on_click=_leave)
        return
    with st.popover("Presenter", icon=":material/co_present:", key="presenter-code-place"):
        # A form sends an entry once, and empties it itself: a field by itself would be sent again while a run is shown.
        with st.form("presenter-form", clear_on_submit=True, border=False):
            st.text_input(
                "Code", type="password", key="presenter-code", help="Lets you see, stop, keep and forget every run."
            )
            st.form_submit_button("Give the code", key="presenter-submit", on_click=_try_code)
        if refusal := st.session_state.pop("presenter-refusal", ""):
            messages.error(refusal)


def _leave() -> None:
    _presenters().discard(visitor.identity())


@st.cache_resource(show_spinner=False)
def _wrong_codes() -> tuple[threading.Lock, deque[float]]:
    """When wrong codes were given, by whomever: a visitor can get a new token for every try."""
    return threading.Lock(), deque()


def _try_code() -> None:
    state = st.session_state
    code, given = PRESENTER_CODE.value(), state.get("presenter-code", "")
    if not given:
        return
    lock, wrong = _wrong_codes()
    with lock:
        while wrong and time.monotonic() - wrong[0] > TRIES_SECONDS:
            wrong.popleft()
        if len(wrong) >= MOST_TRIES:
            state["presenter-refusal"] = TOO_MANY
        elif code and hmac.compare_digest(given.encode(), code.encode()):
            _presenters().add(visitor.identity())
        else:
            wrong.append(time.monotonic())
            state["presenter-refusal"] = REFUSED
