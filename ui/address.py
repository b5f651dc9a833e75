"""Keep a page's address and its controls at the same scenario, so that a link opens what its sender saw.

`?run=ID` shows a run; anything else is a scenario as `Scenario.to_query` writes it. Streamlit can bind a widget to the
address too, but it writes displayed words instead of the names that the command line and the JSON use, and silently
ignores what it does not understand; here the scenario itself reads, checks and writes.

An address without any setting opens `WELCOME`, or what else a page has as its default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.scenario import Scenario

if TYPE_CHECKING:  # an address is read before the store is loaded
    from deepleak_core.runs.store import Store

WELCOME = Scenario(indices=(0, 1, 3, 4))
DISCARDED = "Link ignored; showing the default batch."
TOUR = "tour"  # a parameter that pages neither read nor write: the step of the guided tour
SETTLING_SECONDS = 2.0  # for this long the browser may still report the address that was just replaced


def scenario_of(query: Mapping[str, str | list[str]], default: Scenario = WELCOME) -> Scenario:
    """The scenario of an address. Raises `UnsupportedScenario`.

    >>> scenario_of({}).indices, scenario_of({"composition": "same"}).batch_size
    ((0, 1, 3, 4), 4)
    """
    return Scenario.from_query(query) if set(query) & set(Scenario.model_fields) else default


def query_of(scenario: Scenario, default: Scenario = WELCOME) -> dict[str, str]:
    """The shortest address of a scenario; `scenario_of` gives an equal one back.

    >>> query_of(WELCOME), query_of(Scenario())
    ({}, {'composition': 'distinct'})
    """
    return {} if scenario == default else scenario.to_query() or {"composition": "distinct"}


@dataclass(frozen=True)
class Opened:
    """What an address asks for: a scenario, the run it belongs to if any, and the problems with it.

    `suspense` hides the private images until the end of a run.
    """

    scenario: Scenario
    run_id: str | None = None
    suspense: bool = False
    problems: tuple[str, ...] = ()


def opened(
    store: Store, check: Callable[[Scenario], None], *, arriving: bool, default: Scenario = WELCOME
) -> Opened | None:
    """What the address asks for where it is new: on arrival, by back and forward, by hand. Otherwise None.

    `check` raises `UnsupportedScenario` for a scenario that the controls could not show as it is.
    """
    query = news(arriving=arriving)
    if query is None:
        return None
    suspense = query.get("suspense") == ["true"]
    if "run" in query:
        run_id = query["run"][-1]
        record = store.run(run_id)
        if record is not None:
            return Opened(record.scenario, run_id, suspense)
        problem = f"There is no run {run_id!r} here. It was forgotten, or its link is incomplete or of another server."
        return Opened(default, None, suspense, (problem,))
    try:
        scenario = scenario_of(query, default)
        check(scenario)
        return Opened(scenario, None, suspense)
    except UnsupportedScenario as error:
        return Opened(default, None, suspense, (*error.problems, DISCARDED))


def arriving(page: str) -> bool:
    """Whether the visitor comes to this page from another one or from outside; its controls are not set then.

    From now on the visitor is on this page.
    """
    news = is_arriving(page) or "pick" not in st.session_state
    st.session_state.page = page
    return news


def is_arriving(page: str) -> bool:
    """Whether the visitor was not on this page before."""
    return bool(st.session_state.get("page") != page)


def publish(
    scenario: Scenario | None, run_id: str | None = None, suspense: bool = False,
    extra: Mapping[str, str] | None = None, default: Scenario = WELCOME,
) -> None:  # fmt: skip
    """Write the address of what the page shows: a run by its id, else the scenario, where the controls make one.

    `extra` are further parameters, by names that are no setting of a scenario.
    """
    if scenario is None:
        return
    query = {"run": run_id} if run_id else query_of(scenario, default)
    write(query | ({"suspense": "true"} if suspense else {}) | dict(extra or {}))


def news(*, arriving: bool) -> dict[str, list[str]] | None:
    """The address where this page did not write or read it last, else None."""
    state, query = st.session_state, _current()
    if "address" in state and not arriving:
        settling = time.monotonic() - state.get("address_time", 0.0) < SETTLING_SECONDS and not _gone_back()
        if query == state.address or (settling and query == state.address_before):
            return None
    state.address = query
    return query


def _gone_back() -> bool:
    """Whether the visitor has gone back or forward in the browser's history, as far as Streamlit tells."""
    return bool(getattr(get_script_run_ctx(), "is_history_navigation", False))


def write(query: Mapping[str, str]) -> None:
    """Have the browser show this address, in which the step of the tour stays."""
    state, now = st.session_state, {name: [value] for name, value in query.items()}
    if now == state.get("address"):
        return
    state.address_before, state.address, state.address_time = _current(), now, time.monotonic()
    kept = {TOUR: st.query_params[TOUR]} if TOUR in st.query_params else {}
    st.query_params.from_dict(dict(query) | kept)


def announce(page: str) -> None:
    """Send the browser the address of `page` where the visitor came to it from another one.

    To be called once the page is drawn. The browser knows this address since the click on the link. But an address
    that the page before was still writing can reach the browser after the click, and would stay. Sent earlier, while
    the browser still shows the path of the page before, the address would become an entry of its own in the history.
    """
    state = st.session_state
    if state.setdefault("announced", page) != page:
        state.announced = page
        st.query_params.from_dict(_whole())


def _current() -> dict[str, list[str]]:
    """The address without the step of the tour."""
    return {name: values for name, values in _whole().items() if name != TOUR}


def _whole() -> dict[str, list[str]]:
    return {name: st.query_params.get_all(name) for name in st.query_params}
