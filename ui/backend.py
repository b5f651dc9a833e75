"""The store and the engine that all visitors of this app share, and how fast each of them is served."""

from __future__ import annotations

import atexit
import gc
import math
import os
import sys
import threading
import time
import uuid
from typing import cast

import streamlit as st

from deepleak_core.runs.engine import Engine
from deepleak_core.runs.keeping import Keeping
from deepleak_core.runs.limits import Limits
from deepleak_core.runs.store import Store

REDRAW_SECONDS = 1.0  # between two drawings of what goes on, for few viewers; moments are pushed meanwhile
CROWD = 6  # viewers that are "few"
GONE_SECONDS = 10.0  # a viewer who has not asked for this long has left
VIEWER_NICENESS = 10  # threads that serve viewers give way to attacks


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The run database, see `DEEPLEAK_DB`."""
    return Store()


_started: list[Engine] = []


@atexit.register
def close() -> None:
    """End every run as interrupted, and the workers."""
    while _started:
        _started.pop().close()


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """The engine that executes runs. The first call returns at once; workers start in the background."""
    made = Engine(store(), limits=limits(), keeping=keeping())
    _started.append(made)
    # A full garbage collection scans the million objects of PyTorch and Dask for a quarter of a second. Objects that
    # exist by now stay, so the collector need not look at them again.
    gc.collect()
    gc.freeze()
    return made


def started() -> Engine | None:
    """The engine, if any visitor has needed one yet."""
    return _started[-1] if _started else None


@st.cache_resource(show_spinner=False)
def limits() -> Limits:
    """What this server allows its visitors."""
    return Limits.of_server()


@st.cache_resource(show_spinner=False)
def keeping() -> Keeping:
    """For how long this server keeps runs."""
    return Keeping.of_server()


def viewer() -> str:
    """The id of this session among all viewers."""
    return cast(str, st.session_state.setdefault("viewer", uuid.uuid4().hex))


@st.cache_resource(show_spinner=False)
def _last_asked() -> dict[str, float]:
    """When each session last asked for news of a run."""
    return {}


def pace() -> int:
    """How many times slower than usual this session, which asks now, should refresh."""
    asked, now = _last_asked(), time.monotonic()
    asked[viewer()] = now
    for session, then in list(asked.items()):
        if now - then > GONE_SECONDS:
            asked.pop(session, None)
    return pace_among(len(asked))


def pace_among(viewers: int) -> int:
    """How many times slower than usual each of so many viewers should refresh: the square root of the crowd.

    So the refreshes of all grow slower than their number.

    >>> [pace_among(viewers) for viewers in (1, 6, 7, 24, 25, 54, 100)]
    [1, 1, 2, 2, 3, 3, 5]
    """
    return math.ceil(math.sqrt(max(viewers, 1) / CROWD))


def give_way() -> None:
    """Lower the priority of the thread that serves a viewer, where the system has priorities of threads.

    To be called after the engine was made: threads and workers inherit the priority of whoever starts them.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), VIEWER_NICENESS)
