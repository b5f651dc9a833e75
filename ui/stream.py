"""The address `/moments/RUN`: the moments of a run under way, pushed to every viewer through a WebSocket.

Streamlit draws a part of a page anew for each viewer and moment, which takes milliseconds of Python each time. Here a
moment is read and encoded once and the same text is sent to all viewers, so that a crowd costs a run little. A page
gives its player the address, see `address_of`. Where a proxy lets no WebSocket through the page still shows the newest
moment whenever it is drawn anew, about once a second.

A message is the JSON of a `LiveFrame`. A viewer who takes longer than a moment lasts gets the next newest one. The
socket is closed with `OUTDATED` as soon as the page itself has to be drawn anew, and with `ENDED` when the run is over.
The page notices an end by itself: it may be drawn already without the fragment that a browser would ask for.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect

if TYPE_CHECKING:
    from deepleak_core.runs.store import RunRecord

PAUSE_SECONDS = 0.2  # between two looks at a run, however many follow it
OUTDATED, ENDED = 4000, 1000  # close codes: one of those that applications may define, and the usual one
READERS = 2  # threads, for runs that are followed at the same time


@dataclass(frozen=True)
class News:
    """What a run looks like now: `turn` changes where its page has to be drawn anew, `text` with each moment.

    `turn` is empty when the run is over.
    """

    turn: str
    text: str = ""


def address_of(record: RunRecord) -> str:
    """Where a page that shows this run as it is now gets its next moments, relative to the app; empty at its end."""
    return f"moments/{record.id}?turn={turn_of(record)}" if record.under_way else ""


def turn_of(record: RunRecord) -> str:
    """What a page draws of a run beside its moments: before the first one each event, then only its end."""
    return f"{record.attempt}-{record.status}-{'moments' if record.snapshots else record.events}"


async def answer(socket: WebSocket) -> None:
    """Send moments until the viewer leaves, or the page is outdated."""
    await socket.accept()
    sending = asyncio.create_task(_send(socket))
    leaving = asyncio.create_task(_until_left(socket))
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        leaving.cancel()


async def _until_left(socket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()


async def _send(socket: WebSocket) -> None:
    """Send each moment that is new to this viewer."""
    run_id, turn = socket.path_params["run"], socket.query_params.get("turn")
    last = ""
    with suppress(WebSocketDisconnect):
        while True:
            news = await _next(run_id)
            if news is None:
                continue
            if not news.turn or news.turn != turn:
                await socket.close(OUTDATED if news.turn else ENDED)
                return
            if news.text not in ("", last):
                last = news.text
                await socket.send_text(last)


_looks: dict[str, asyncio.Task[News | None]] = {}  # of the one event loop of the server, by run
_readers = ThreadPoolExecutor(READERS, "deepleak-moments")


async def _next(run_id: str) -> News | None:
    """The next look at a run, shared by all who wait for it; None where the store does not answer."""
    if run_id not in _looks:
        _looks[run_id] = asyncio.create_task(_look(run_id))
    return await asyncio.shield(_looks[run_id])


async def _look(run_id: str) -> News | None:
    try:
        await asyncio.sleep(PAUSE_SECONDS)
        return await asyncio.get_running_loop().run_in_executor(_readers, newest, run_id)
    finally:
        del _looks[run_id]


def newest(run_id: str) -> News | None:
    """Read and encode the newest moment of a run; None where the store does not answer."""
    from deepleak_core.errors import StoreUnavailable
    from deepleak_core.text import json_values
    from ui import records, tracks
    from ui.backend import give_way
    from ui.player import payload

    give_way()
    try:
        record = records.glance(run_id)
        if record is None or not record.under_way:
            return News("")
        frame = tracks.live_frame(record) if record.snapshots else None
    except StoreUnavailable:
        return None
    return News(turn_of(record), json.dumps(json_values(payload.live(frame))) if frame else "")
