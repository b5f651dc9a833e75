"""The one store and the one engine of this app, shared by all its visitors."""

from __future__ import annotations

import atexit
import gc
import math
import os
import sys
import threading
import time

import streamlit as st

from deepleak_core.runs.engine import Engine
from deepleak_core.runs.store import Store

CROWD = 5  # viewers that get every picture; more share the same number of refreshes a second
GONE_SECONDS = 10.0  # a viewer who has not asked for so long has left
WAITS = 10  # niceness of what is done for viewers: an attack that wants the processor gets it first


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """Where runs are kept, see `DEEPLEAK_DB`."""
    return Store()


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """Where runs execute. The first call returns at once and gets the workers ready in the background."""
    started = Engine(store())
    atexit.register(started.close)
    # Streamlit collects garbage after every single rerun, which looks at each of the million objects that PyTorch
    # and Dask are made of: a quarter of a second, for every picture. What is loaded by now stays: look no more.
    gc.collect()
    gc.freeze()
    return started


@st.cache_resource(show_spinner=False)
def _last_asked() -> dict[str, float]:
    """When each session last asked for news of a run."""
    return {}


def pace(session: str) -> int:
    """How many times slower than usual this session, which asks now, should go on: 1, 2, 4, ... by the crowd."""
    asked, now = _last_asked(), time.monotonic()
    asked[session] = now
    watching = sum(now - then < GONE_SECONDS for then in list(asked.values()))
    return 2 ** max(0, math.ceil(math.log2(watching / CROWD)))


def give_way() -> None:
    """Have the thread that works for a viewer wait for attacks, where the system knows priorities of threads.

    To be called once the engine is there: threads and workers inherit the priority of whoever starts them.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WAITS)
