"""Write into the store from one thread, in order, and try again what fails.

A database may be locked, full, read-only or gone for a while. Until it answers, writes wait in memory in their order:
no event is lost. A run whose events cannot be stored for long, or of which too much waits, is given up: what waits of
it is dropped, and it ends as failed with that cause. An end is never given up; until it is stored, viewers in this
process are told it all the same (see `Store.announce`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deepleak_core.errors import StoreUnavailable
from deepleak_core.events import PICTURES
from deepleak_core.runs.log import Facts, log
from deepleak_core.runs.record import Status
from deepleak_core.runs.store import Store

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds before a write is tried again; doubled each time
PATIENCE_SECONDS = 60.0  # for which a database may take nothing before a run is given up
MOST_BYTES = 256 * 2**20  # of pictures that wait in memory


@dataclass(frozen=True, kw_only=True)
class _Write:
    """One write of a run. `end`, the status and the message, is given where it ends the run; it is never dropped."""

    run_id: str
    do: Callable[[], object]
    size: int = 0
    end: tuple[Status, str] | None = None
    then: Callable[[], object] = lambda: None
    stored: threading.Event = field(default_factory=threading.Event)


class Writer:
    """Writes into a store by a thread of its own.

    Args:
        store: Where to write.
        on_given_up: Called with the id of a run of which no more is kept; from any thread.

    Attributes:
        trouble: Why the last write failed, in a sentence; empty while the database answers.
    """

    def __init__(self, store: Store, on_given_up: Callable[[str], object]):
        self.store = store
        self.trouble = ""
        self._on_given_up = on_given_up
        self._writes: deque[_Write] = deque()
        self._bytes = 0
        self._given_up: set[str] = set()
        self._changed = threading.Condition()
        self._deadline: float | None = None  # set when no more is to come
        self._thread = threading.Thread(target=self._work, name="deepleak-writer", daemon=True)
        self._thread.start()

    def start(self, run_id: str) -> None:
        """Mark a run as running, see `Store.start`."""
        self._put(_Write(run_id=run_id, do=lambda: self.store.start(run_id)))

    def note_again(self, run_id: str, message: str) -> None:
        """Set the message of a run, unless it has not begun or has ended."""
        self._put(_Write(run_id=run_id, do=lambda: self._note(run_id, message)))

    def append(self, run_id: str, event: Mapping[str, Any]) -> None:
        """Keep an event, given as the message of `events.to_message`."""
        pictures = event.get(PICTURES.get(event["kind"], ""), ())
        size = len(pictures) if isinstance(pictures, bytes) else sum(map(len, pictures))
        self._put(_Write(run_id=run_id, do=lambda: self.store.append(run_id, [event]), size=size))

    def finish(
        self,
        run_id: str,
        status: Status,
        message: str = "",
        *,
        facts: Facts | None = None,
        then: Callable[[], object] = lambda: None,
    ) -> threading.Event:
        """End a run unless it has ended, and then call a function; what is returned is set after both.

        `facts` are told to the log once the end is stored.
        """
        return self._put(self._end(run_id, status, message, facts or {}, then))

    def close(self, seconds: float) -> None:
        """Write what waits, for no longer than this, and end the thread."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._changed.notify()
        self._thread.join()
        if self._writes:
            logger.error("%d writes are lost: the run database did not take them.", len(self._writes))

    def _end(
        self, run_id: str, status: Status, message: str, facts: Facts, then: Callable[[], object] = lambda: None
    ) -> _Write:
        def do() -> None:
            if self.store.finish(run_id, status, message):
                level = logging.WARNING if status == "failed" else logging.INFO
                log(f"run {status}", level=level, **(facts | {"run": run_id}))

        return _Write(run_id=run_id, do=do, end=(status, message), then=then)

    def _note(self, run_id: str, message: str) -> None:
        record = self.store.run(run_id)
        if record is not None and record.status == "running":
            self.store.note(run_id, message)

    def _put(self, write: _Write) -> threading.Event:
        with self._changed:
            if write.end is not None or write.run_id not in self._given_up:
                self._writes.append(write)
                self._bytes += write.size
                if write.size and self._bytes > MOST_BYTES:
                    self._give_up(write.run_id)
            self._changed.notify()
        return write.stored

    # ------------------------------------------------------------------------------------------------ the thread

    def _work(self) -> None:
        pause, failing_since = FIRST_PAUSE, None
        while (write := self._next()) is not None:
            began = time.monotonic()
            if self._try(write):
                pause, failing_since = FIRST_PAUSE, None
                continue
            failing_since = began if failing_since is None else failing_since
            if self._late():
                return
            if write.end is None and time.monotonic() - failing_since > PATIENCE_SECONDS:
                with self._changed:
                    self._give_up(write.run_id)
                continue
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _next(self) -> _Write | None:
        """The first write in line, which stays there until it is done; None when no more is to come."""
        with self._changed:
            self._changed.wait_for(lambda: self._writes or self._deadline is not None)
            return self._writes[0] if self._writes else None

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _try(self, write: _Write) -> bool:
        """Do a write; whether it needs no further try."""
        try:
            write.do()
        except StoreUnavailable as error:
            if not self.trouble:
                log("storage trouble", level=logging.ERROR, cause=type(error.__cause__).__name__)
            self.trouble = str(error)
            if write.end is not None:
                self.store.announce(write.run_id, *write.end)
            return False
        except Exception:  # no database failed: it would fail again
            logger.exception("A write of run %s is left out.", write.run_id)
        if self.trouble:
            log("storage answers again")
        self.trouble = ""
        with self._changed:
            if self._writes and self._writes[0] is write:  # else its run was given up meanwhile
                self._writes.popleft()
                self._bytes -= write.size
        write.then()
        write.stored.set()
        return True

    def _give_up(self, run_id: str) -> None:
        """Drop what waits of a run, but for its end, and end it as failed. To be called with the lock."""
        cause = f"The run was given up, because its events could not be stored: {self.trouble or 'too many wait.'}"
        logger.error("Run %s: %s", run_id, cause)
        self._given_up.add(run_id)
        kept = [write for write in self._writes if write.run_id != run_id or write.end is not None]
        place = next((place for place, write in enumerate(kept) if write.run_id == run_id), len(kept))
        kept.insert(place, self._end(run_id, "failed", cause, {"cause": "storage"}))  # of several ends the first counts
        self._writes = deque(kept)
        self._bytes = sum(write.size for write in kept)
        self._on_given_up(run_id)
