"""A thread that looks after the runs in a database, beside the one that works on them.

What others have asked about runs of this process is passed on within a second. Runs whose process is gone are ended,
and so are runs of this process that it does not know: their database failed while they were made. Runs that shall not
be kept any longer are deleted.

Where an app may run on another machine (a database of a server), each process writes now and then that it lives. One
whose mark has not changed for long, while this process could read it, is taken for gone; no two clocks are compared.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from deepleak_core.errors import StoreUnavailable
from deepleak_core.runs.keeping import Keeping, forget_marked, mark_outdated
from deepleak_core.runs.store import Store, this_process

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.4  # between looks for requests, while runs wait or are under way here
TIDY_SECONDS = 10.0  # between looks for all else
LOST_SECONDS = 60.0  # after which a run of this process that it does not know is ended
SILENT_SECONDS = 30.0  # after which a process on another machine that does not write is taken for gone


class Housekeeper:
    """Looks after a store until it is closed.

    Args:
        store: The store.
        keeping: How long and how much is kept.
        known: The ids of the runs that wait or are under way here.
        stop: Called with the id of a run of this process that somebody has asked to stop.
        give_up: Called with the id of a run of this process that it does not know.
    """

    def __init__(
        self,
        store: Store,
        *,
        keeping: Keeping,
        known: Callable[[], Collection[str]],
        stop: Callable[[str], object],
        give_up: Callable[[str], object],
    ):
        self.store = store
        self.keeping = keeping
        self._known, self._stop, self._give_up = known, stop, give_up
        self._silent = Silence()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="deepleak-housekeeper", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look now: something was asked, or begins."""
        self._wake.set()

    def close(self, seconds: float) -> None:
        """End the thread, or leave it after this time: it is not waited for while a database does not answer."""
        self._closing = True
        self._wake.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        next_tidy = 0.0
        while not self._closing:
            self._wake.clear()
            pause = LOOK_SECONDS if self._known() else TIDY_SECONDS
            try:
                self._look()
                if time.monotonic() > next_tidy:
                    next_tidy = time.monotonic() + TIDY_SECONDS
                    self._tidy()
            except StoreUnavailable:  # logged by the store
                self._silent.forget()
                pause = TIDY_SECONDS
            except Exception:
                logger.exception("The housekeeper failed in one of its actions.")
            self._wake.wait(pause)

    def _look(self) -> None:
        """Pass on what was asked, and delete what shall be forgotten."""
        requests = self.store.requests()
        for request in requests:
            if request.under_way and request.owner == this_process():
                self._stop(request.run_id)
        if any(not request.under_way for request in requests):
            forget_marked(self.store)

    def _tidy(self) -> None:
        """End runs that nobody works on, and forget those that are too old or take too much."""
        self.store.beat(this_process())
        self.store.interrupt_orphans(self._silent.after(self.store.beats()))
        for run_id in self.store.lost(this_process(), time.time() - LOST_SECONDS, self._known()):
            self._give_up(run_id)
        if mark_outdated(self.store, self.keeping):
            forget_marked(self.store)


class Silence:
    """Which processes have not been heard of for long.

    >>> silence = Silence()
    >>> silence.after({"a": 1.0, "b": 1.0}, now=0), silence.after({"a": 2.0, "b": 1.0}, now=SILENT_SECONDS + 1)
    ([], ['b'])
    """

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, float]] = {}  # the last beat of each, and when it was first seen here

    def after(self, beats: dict[str, float], *, now: float | None = None) -> list[str]:
        """Take note of the last beat of each process; those whose beat is an old one."""
        now = time.monotonic() if now is None else now
        for owner, beat in beats.items():
            if self._heard.get(owner, (None,))[0] != beat:
                self._heard[owner] = beat, now
        return [owner for owner in beats if now - self._heard[owner][1] > SILENT_SECONDS]

    def forget(self) -> None:
        """Begin anew: this process could not read, and others perhaps not write."""
        self._heard.clear()
