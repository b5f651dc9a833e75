"""Visitors of the app that speak Streamlit's protocol without drawing: any number of them costs one process.

A visitor opens a link, repeats each fragment as often as the page asks a browser to, follows the moments that the
server pushes, and connects again when the connection is lost. What the page sends is kept: messages, tracebacks, and
the moments of an attack as they arrive.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html import unescape
from multiprocessing.connection import Connection
from typing import Any

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.typing import Subprotocol

from ui import stream

MESSAGE = re.compile(r'<p class="dl-message[^>]*>(.*?)</p>', re.DOTALL)
RETRY_SECONDS = 0.5  # between attempts to connect


@dataclass(kw_only=True)
class Seen:
    """What a visitor has seen so far; times are those of `time.time()`.

    Attributes:
        query: The address's part behind the question mark, as the page has set it.
        drawn: How often the page or a part of it was drawn to its end.
        frames: When a moment of an attack arrived, and its seconds since the attack began.
        sentences: Messages, and when each was seen first.
        tracebacks: Errors that the page shows as such.
    """

    query: str
    drawn: int = 0
    frames: list[tuple[float, float]] = field(default_factory=list)
    sentences: dict[str, float] = field(default_factory=dict)
    tracebacks: list[str] = field(default_factory=list)

    @property
    def run(self) -> str:
        """The id of the run that the page shows, empty without one."""
        found = re.search(r"(?:^|[?&])run=([\w-]+)", self.query)
        return found[1] if found else ""


class Visitor:
    """One session.

    Args:
        address: The address of the app, such as http://127.0.0.1:8501.
        query: The link's part behind the question mark.
        press: The key of a button that is pressed as soon as it is there, once.
        token: What the visitor's cookie holds; a new one without.
    """

    def __init__(self, address: str, query: str, *, press: str = "", token: str = ""):
        self.seen = Seen(query=query)
        self._address = address.replace("http", "ws", 1)
        self._press = press
        self._cookie = {"Cookie": f"deepleak_visitor={token or secrets.token_urlsafe(16)}"}
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._pushed: dict[str, asyncio.Task[None]] = {}
        self._socket: Any = None

    async def stay(self) -> None:
        """Follow the page until this is cancelled."""
        while True:
            try:
                await self._visit()
            finally:
                await _cancel(self._timers)
                await _cancel(self._pushed)
            await asyncio.sleep(RETRY_SECONDS)

    async def _visit(self) -> None:
        """One connection, until it is lost."""
        with suppress(OSError, websockets.WebSocketException):
            async with websockets.connect(
                f"{self._address}/_stcore/stream", subprotocols=[Subprotocol("streamlit")], max_size=None,
                ping_interval=None, additional_headers=self._cookie,
            ) as self._socket:  # fmt: skip
                await self._ask()
                async for data in self._socket:
                    await self._take(ForwardMsg.FromString(data))

    async def _ask(self, fragment: str = "", button: str = "") -> None:
        message = BackMsg()
        message.rerun_script.query_string = self.seen.query
        message.rerun_script.fragment_id = fragment
        message.rerun_script.is_auto_rerun = bool(fragment)
        if button:
            message.rerun_script.widget_states.widgets.add(id=button, trigger_value=True)
        await self._socket.send(message.SerializeToString())

    async def _repeat(self, fragment: str, interval: float) -> None:
        with suppress(websockets.WebSocketException):
            while True:
                await asyncio.sleep(interval)
                await self._ask(fragment)

    async def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session" and not message.metadata.run.fragment_ids:
            await _cancel(self._timers)
        elif kind == "script_finished":
            self.seen.drawn += 1
        elif kind == "page_info_changed":
            self.seen.query = message.page_info_changed.query_string
        elif kind == "auto_rerun":
            asked = message.auto_rerun
            if asked.fragment_id not in self._timers:
                self._timers[asked.fragment_id] = asyncio.create_task(self._repeat(asked.fragment_id, asked.interval))
        elif kind == "delta":
            await self._look(message.delta.new_element, message.delta.fragment_id)

    async def _look(self, element: Any, fragment: str) -> None:
        kind, now = element.WhichOneof("type"), time.time()
        if kind == "html":
            for sentence in MESSAGE.findall(element.html.body):
                self.seen.sentences.setdefault(unescape(sentence), now)
        elif kind == "exception":
            self.seen.tracebacks.append(f"{element.exception.type}: {element.exception.message}")
        elif kind == "bidi_component" and element.bidi_component.component_name.endswith("deepleak_feed"):
            tracks = json.loads(element.bidi_component.json)["tracks"].values()
            self.seen.frames += [(now, track["live"]["t"]) for track in tracks if track["live"]]
            self._follow({track["stream"] for track in tracks if track["stream"]}, fragment)
        elif kind == "button" and self._is_wanted(element.button):
            self._press = ""
            await self._ask(button=element.button.id)

    def _follow(self, streams: set[str], fragment: str) -> None:
        for name in self._pushed.keys() - streams:
            self._pushed.pop(name).cancel()
        for name in streams - self._pushed.keys():
            self._pushed[name] = asyncio.create_task(self._moments(name, fragment))

    async def _moments(self, name: str, fragment: str) -> None:
        """Note the moments that are pushed; where the page is outdated its fragment is asked for again."""
        with suppress(OSError, websockets.WebSocketException):
            async with websockets.connect(f"{self._address}/{name}", max_size=None, ping_interval=None) as socket:
                async for text in socket:
                    self.seen.frames.append((time.time(), json.loads(text)["t"]))
            if socket.close_code == stream.OUTDATED:
                await self._ask(fragment)

    def _is_wanted(self, button: Any) -> bool:
        return bool(self._press and button.id.endswith(f"-{self._press}") and not button.disabled)


async def _cancel(tasks: dict[str, asyncio.Task[None]]) -> None:
    """Cancel the tasks, wait for their end, and forget them."""
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    tasks.clear()


@contextmanager
def visiting(visitor: Visitor) -> Iterator[Seen]:
    """A visitor in a thread of this process; gives what it sees, as it sees it."""
    loop = asyncio.new_event_loop()
    staying = loop.create_task(visitor.stay())

    def stay() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(staying)
        loop.close()

    thread = threading.Thread(target=stay, name="visitor", daemon=True)
    thread.start()
    try:
        yield visitor.seen
    finally:
        loop.call_soon_threadsafe(staying.cancel)
        thread.join()


@contextmanager
def crowd(visitors: Sequence[Visitor]) -> Iterator[list[Seen]]:
    """Visitors in one process of their own; what they have seen is in the list once they have left."""
    if not visitors:
        yield []
        return
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_gather, args=(visitors, theirs), daemon=True)
    process.start()
    seen: list[Seen] = []
    try:
        yield seen
    finally:
        ours.send("leave")
        seen += ours.recv()
        process.join()


def _gather(visitors: Sequence[Visitor], parent: Connection) -> None:
    async def until_told() -> None:
        staying = [asyncio.create_task(visitor.stay()) for visitor in visitors]
        while not parent.poll():
            await asyncio.sleep(0.1)
        for visit in staying:
            visit.cancel()

    asyncio.run(until_told())
    parent.send([visitor.seen for visitor in visitors])
