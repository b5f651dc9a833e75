"""The one store and the one engine of this app, shared by all its visitors."""

from __future__ import annotations

import atexit
import gc

import streamlit as st

from deepleak_core.engine import Engine
from deepleak_core.store import Store


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
