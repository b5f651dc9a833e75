"""Number of CPU threads of an attack: all cores but one.

OpenMP threads spin while they wait for each other. An attack that takes every core is slowed down threefold, at times
tenfold, by a single other busy process, such as the app that shows it. With one core left free it is not.
"""

from __future__ import annotations

from deepleak_core.environment import THREADS
from deepleak_core.errors import DeepLeakError
from deepleak_core.text import shorten


def cpu_threads(processes: int = 1) -> int:
    """Threads for each of `processes` attacks on this machine; `DEEPLEAK_THREADS` overrides it.

    Raises:
        DeepLeakError: `DEEPLEAK_THREADS` is not a positive whole number.
    """
    given = THREADS.value()
    if given and not (given.isascii() and given.isdecimal() and int(given) > 0):
        raise DeepLeakError(
            f"DEEPLEAK_THREADS was {shorten(repr(given))}; accepted is a number from 1 up, or leave it unset."
        )
    return int(given) if given else max(1, (_cores() - 1) // processes)


def _cores() -> int:
    from dask.system import CPU_COUNT  # respects the limits of containers; imported here, it takes a while

    return int(CPU_COUNT)
