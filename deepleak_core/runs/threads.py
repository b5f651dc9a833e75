"""How many threads an attack takes on a CPU: all cores but one.

OpenMP threads spin while they wait for each other. An attack that takes every core is therefore slowed threefold,
and at times tenfold, by a single busy neighbour, such as the app that shows it; with one core left alone it is not.
"""

from __future__ import annotations

import os

from dask.system import CPU_COUNT

from deepleak_core.errors import DeepLeakError


def cpu_threads(processes: int = 1) -> int:
    """Threads for each of `processes` that share this machine; `DEEPLEAK_THREADS` says otherwise."""
    given = os.environ.get("DEEPLEAK_THREADS")
    if given and not (given.isdecimal() and int(given) > 0):
        raise DeepLeakError(f"DEEPLEAK_THREADS was {given!r}; accepted is a number from 1 up, or leave it unset.")
    return int(given) if given else max(1, (CPU_COUNT - 1) // processes)
