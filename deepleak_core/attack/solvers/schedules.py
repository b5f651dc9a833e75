"""How the step of a solver falls: the share of its learning rate at some progress in [0, 1].

To add a schedule, write a function and add one entry to `SCHEDULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]

CUTS = (3 / 8, 5 / 8, 7 / 8)  # progress at which the rate is divided by ten (Geiping et al. 2020)
LAST_SHARE = 1e-3  # share at the end of a cosine


def steps(progress: float) -> float:
    """A tenth of the rate after each of `CUTS`.

    >>> [steps(progress) for progress in (0, 0.374, 0.375, 0.7)]
    [1.0, 1.0, 0.1, 0.010000000000000002]
    """
    share: float = 0.1 ** sum(progress >= cut for cut in CUTS)
    return share


def cosine(progress: float) -> float:
    """Half a cosine, from the whole rate to nearly nothing (Loshchilov and Hutter 2017, without restarts).

    >>> [round(cosine(progress), 3) for progress in (0, 0.5, 1, 2)]
    [1.0, 0.5, 0.001, 0.001]
    """
    return max(LAST_SHARE, 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


SCHEDULES: dict[str, Schedule] = {"steps": steps, "cosine": cosine}
