"""Problems and notes on runs, in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from deepleak_core.runs.store import RunRecord, Store


def of_store(store: Store) -> None:
    """Once per session, what happened to the run database when it was opened."""
    if store.notice and not st.session_state.get("store_notice"):
        st.session_state.store_notice = True
        st.toast(store.notice, icon=":material/database:", duration="long")


def errors(problems: Iterable[str]) -> None:
    """Every problem once."""
    for problem in dict.fromkeys(problems):
        st.error(problem)


def of_runs(*records: RunRecord) -> None:
    """What the store says about runs that failed, were interrupted or had to be started again, each sentence once."""
    for message in dict.fromkeys(record.message for record in records if record.message):
        failed = any(record.status == "failed" and record.message == message for record in records)
        (st.error if failed else st.warning)(message)


def plain(text: str) -> str:
    r"""A text that Streamlit's Markdown shows as it is.

    >>> print(plain("![x](http://a)"))
    \!\[x\]\(http\://a\)
    """
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~$:-])", r"\\\1", text)
