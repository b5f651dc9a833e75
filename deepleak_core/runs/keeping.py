"""For how long runs are kept, and how they are deleted.

A run is forgotten when its owner asks for it, when it is older than `DEEPLEAK_KEEP_DAYS`, and, the oldest first, when
all runs together take more than `DEEPLEAK_KEEP_MB`. Runs under way are not, and runs that are kept on purpose only
when asked for. From the moment it is marked nobody finds a run any more; then its events are deleted in short
transactions, between which others write, and the space is given back to the system.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from deepleak_core.environment import KEEP_DAYS, KEEP_MB
from deepleak_core.runs.schema import FORGET
from deepleak_core.runs.store import Store

DAY, MB = 86_400.0, 1_000_000
EVENTS_AT_ONCE, PAGES_AT_ONCE = 50, 500  # in one transaction, some hundred ms at most
RUNS_AT_ONCE = 100  # that are looked at; others are the next time
PAUSE_SECONDS = 0.01  # between two transactions, in which others write


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How long and how much is kept, without limit where it is None."""

    days: float | None
    megabytes: float | None

    @classmethod
    def of_server(cls) -> Keeping:
        """As the environment says. Raises `DeepLeakError` where it is no number."""
        return cls(days=KEEP_DAYS.value(), megabytes=KEEP_MB.value())

    def sentence(self) -> str:
        """What visitors are told.

        >>> print(Keeping(days=30, megabytes=2000).sentence())
        Runs are kept for 30 days; the oldest are forgotten earlier where all together take more than 2000 MB.
        >>> print(Keeping(days=1, megabytes=None).sentence(), Keeping(days=None, megabytes=None).sentence())
        Runs are kept for 1 day. Runs are kept until they are forgotten here.
        """
        age = "until they are forgotten here" if self.days is None else f"for {self.days:g} day{'s' * (self.days != 1)}"
        if self.megabytes is None:
            return f"Runs are kept {age}."
        return (
            f"Runs are kept {age}; the oldest are forgotten earlier where all together take more than "
            f"{self.megabytes:g} MB."
        )

    def has_room_to_keep(self, store: Store, size: int) -> bool:
        """Whether a run of so many bytes may be excepted: such runs take half of the space at most."""
        return self.megabytes is None or store.size(kept=True) + size <= self.megabytes * MB / 2


def mark_outdated(store: Store, keeping: Keeping) -> int:
    """Mark runs that are too old or take too much to be forgotten, the oldest first and not too many; how many."""
    excess = 0 if keeping.megabytes is None else store.size() - keeping.megabytes * MB
    oldest = -1.0 if keeping.days is None else time.time() - keeping.days * DAY
    marked = 0
    for run_id, ended, size in store.expendable(RUNS_AT_ONCE):
        if ended >= oldest and excess <= 0:
            break
        store.ask(run_id, FORGET)
        excess, marked = excess - size, marked + 1
    return marked


def forget_marked(store: Store) -> int:
    """Delete the runs that shall be forgotten and have ended, and give their space back; how many those were."""
    marked = [request.run_id for request in store.requests() if request.what == FORGET and not request.under_way]
    for run_id in marked:
        while store.delete_events(run_id, EVENTS_AT_ONCE):
            time.sleep(PAUSE_SECONDS)
        store.delete_run(run_id)
    while marked and store.give_back(PAGES_AT_ONCE):
        time.sleep(PAUSE_SECONDS)
    return len(marked)
