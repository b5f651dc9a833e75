"""Moments of a run are pushed to all who follow it, until their page is outdated."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from deepleak_core.events import Event, Snapshot
from deepleak_core.runs.run import run
from deepleak_core.runs.store import Store, this_process
from deepleak_core.scenario import Scenario
from ui import stream

SCENARIO = Scenario(indices=(0, 3), model="lenet", max_iterations=6)
LONG_SECONDS = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that answers with moments alone."""
    app = Starlette(routes=[WebSocketRoute("/moments/{run}", stream.answer)])
    serving = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=serving.run, daemon=True)
    thread.start()
    while not serving.started:
        time.sleep(0.01)
    yield f"ws://127.0.0.1:{serving.servers[0].sockets[0].getsockname()[1]}"
    serving.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return list(run(SCENARIO))


@pytest.fixture
def run_id(store: Store, events: list[Event]) -> str:
    """A run under way with its first moment."""
    created = store.create(SCENARIO, this_process())
    store.start(created)
    store.append(created, events[: 1 + first_moment(events)])
    return created


def first_moment(events: list[Event]) -> int:
    return next(n for n, event in enumerate(events) if isinstance(event, Snapshot))


def address(store: Store, run_id: str) -> str:
    record = store.run(run_id)
    assert record is not None
    return stream.address_of(record)


def moment(socket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(socket.recv(LONG_SECONDS))
    return found


def expect_closed(socket: ClientConnection, code: int = stream.OUTDATED) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(LONG_SECONDS)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code


def test_a_viewer_gets_the_newest_moment_and_each_new_one(
    server: str, store: Store, run_id: str, events: list[Event]
) -> None:
    moments = [event for event in events if isinstance(event, Snapshot)]
    with connect(f"{server}/{address(store, run_id)}") as socket:
        assert moment(socket)["step"] == moments[0].step
        store.append(run_id, moments[1:2])
        newer = moment(socket)
        assert newer["step"] == moments[1].step
        assert len(newer["curve"]) == 2
        assert newer["strip"]


def test_a_crowd_is_served_by_one_look(
    server: str, store: Store, run_id: str, events: list[Event], queries: list[str]
) -> None:
    moments = [event for event in events if isinstance(event, Snapshot)]
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(f"{server}/{address(store, run_id)}")) for _ in range(30)]
        for socket in sockets:
            moment(socket)
        del queries[:]
        store.append(run_id, moments[1:2])
        assert {moment(socket)["step"] for socket in sockets} == {moments[1].step}
        assert len([query for query in queries if query.startswith("SELECT")]) < len(sockets)


@pytest.mark.parametrize("change", ["ends", "begins again", "is forgotten"])
def test_a_page_is_told_when_it_is_outdated_or_the_run_is_over(
    server: str, store: Store, run_id: str, change: str
) -> None:
    with connect(f"{server}/{address(store, run_id)}") as socket:
        moment(socket)
        if change == "ends":
            store.finish(run_id, "stopped")
        elif change == "begins again":
            store.start(run_id)
        else:
            store.delete_run(run_id)
        expect_closed(socket, stream.OUTDATED if change == "begins again" else stream.ENDED)


def test_before_the_first_moment_each_event_is_drawn_by_the_page(
    server: str, store: Store, events: list[Event]
) -> None:
    waiting = store.create(SCENARIO, this_process())
    with connect(f"{server}/{address(store, waiting)}") as socket:
        store.start(waiting)
        expect_closed(socket)
    with connect(f"{server}/{address(store, waiting)}") as socket:
        store.append(waiting, events[:1])
        expect_closed(socket)


@pytest.mark.parametrize("name", ["nobody", "%00", "a'b", "x" * 2000])
def test_a_run_that_is_not_there_is_over(server: str, name: str) -> None:
    for turn in ("1", ""):
        with connect(f"{server}/moments/{name}?turn={turn}") as socket:
            expect_closed(socket, stream.ENDED)


def test_a_run_that_has_ended_has_no_address(store: Store, run_id: str) -> None:
    store.finish(run_id, "stopped")
    assert address(store, run_id) == ""


def test_viewers_who_leave_are_let_go(server: str, store: Store, run_id: str) -> None:
    for _ in range(20):
        with connect(f"{server}/{address(store, run_id)}"):
            pass
    with connect(f"{server}/{address(store, run_id)}") as socket:
        moment(socket)
        socket.send("what a viewer says is ignored")
        store.finish(run_id, "stopped")
        expect_closed(socket, stream.ENDED)
