"""The address `/health`: whether the app can work, in JSON, for monitors and load balancers.

Streamlit's own `/_stcore/health` says that the server lives. This one also says whether the run database answers and
how many workers are connected, and answers 503 where nothing can run. Before the first visit neither is there yet: both
are made with it, and that is fine. So it is while the workers start.

The question is asked in a thread of its own, one at a time, so a database that hangs holds up no visitor.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from deepleak_core.runs.engine import Engine

LONGEST_SECONDS = 3.0  # that an answer may take; a database that takes longer does not answer
PAUSE_SECONDS = 0.02  # between looks whether there is an answer


@dataclass(frozen=True)
class Health:
    """What the app can do. `store` is unopened until somebody has visited the app, `workers` None until some start."""

    store: Literal["not opened yet", "answers", "takes no writes", "does not answer"] = "not opened yet"
    workers: int | None = None

    @property
    def ok(self) -> bool:
        """Whether runs can be started, or will be soon."""
        return self.store in ("not opened yet", "answers") and self.workers != 0


UNKNOWN = Health("does not answer")


def of_engine(engine: Engine) -> Health:
    """What an engine can do; takes as long as its database does."""
    from deepleak_core.errors import StoreUnavailable

    workers = None if engine.starting else engine.workers
    try:
        engine.store.run("health")  # an id that no run has
    except StoreUnavailable:
        return Health("does not answer", workers)
    return Health("takes no writes" if engine.trouble else "answers", workers)


def of_app() -> Health:
    """What this app can do; nothing is loaded or opened for the answer."""
    started = getattr(sys.modules.get("ui.backend"), "started", None)  # None where nobody has visited yet
    engine = started() if started is not None else None
    return Health() if engine is None else of_engine(engine)


class Probe:
    """One question at a time; whoever asks meanwhile waits for the same answer. For a single event loop."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._answer = UNKNOWN

    async def ask(self) -> Health:
        """The answer, or `UNKNOWN` where it takes longer than `LONGEST_SECONDS`."""
        if self._thread is None or not self._thread.is_alive():
            self._answer = UNKNOWN
            self._thread = threading.Thread(target=self._work, name="deepleak-health", daemon=True)
            self._thread.start()
        deadline = time.monotonic() + LONGEST_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            await asyncio.sleep(PAUSE_SECONDS)
        return self._answer

    def _work(self) -> None:
        self._answer = of_app()


_probe = Probe()


async def answer(request: Request) -> JSONResponse:
    """Answer a request: 200 where the app can work, 503 where not."""
    health = await _probe.ask()
    headers = {"Cache-Control": "no-store"}
    return JSONResponse({"ok": health.ok, **asdict(health)}, 200 if health.ok else 503, headers)
