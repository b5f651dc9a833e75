"""What solvers have in common: the points they yield, their signature, and their entry in the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.solvers.schedules import Schedule
from deepleak_core.events import Stage


@dataclass(frozen=True)
class Iterate:
    """A point that a solver reached. `inputs` is its working memory: copy it to keep it.

    `loss` and `residuals` (R,) belong to exactly these inputs; `gradient` is the largest absolute entry of the loss
    gradient there; `progress` in [0, 1] counts iterations, and `since` those after the iterate before. `labels` are the
    believed labels, set by the attack. A `certified` iterate holds 8-bit images that reproduce the update to rounding.
    """

    step: int
    inputs: Tensor
    loss: float
    residuals: Tensor
    gradient: float
    progress: float
    labels: tuple[int, ...] = ()
    certified: bool = False
    since: int = 1

    @property
    def best(self) -> int:
        """The restart with the smallest residual; one whose residual is no number only where all are none.

        >>> Iterate(0, torch.zeros(2), 0.0, torch.tensor([torch.nan, 0.5]), 0.0, 0.0).best
        1
        """
        return int(self.residuals.nan_to_num(nan=torch.inf).argmin())

    @property
    def residual(self) -> float:
        """The smallest residual of all restarts."""
        return float(self.residuals[self.best])


class Minimise(Protocol):
    """The signature of a solver. Iterates stay within [low, high] where the solver can hold them there.

    `learning_rate` is None for solvers that choose their own steps, and `schedule` means nothing to them. Once `stop`
    returns True a solver ends soon. A `Stage` tells why there is no CUDA graph.
    """

    def __call__(
        self,
        objective: Matching,
        start: Tensor,
        *,
        low: Tensor,
        high: Tensor,
        iterations: int,
        learning_rate: float | None,
        stop: Callable[[], bool],
        schedule: Schedule = ...,
    ) -> Iterator[Iterate | Stage]:
        """Minimise the objective from a starting point (R, B, C, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Solver:
    """One entry of the registry; `takes_learning_rate` says whether the rate and its schedule are settings of it."""

    title: str
    source: str
    minimise: Minimise
    takes_learning_rate: bool = False
