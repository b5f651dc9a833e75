"""Any function as the objective of a solver."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deepleak_core.attack.objectives import Value

LOW, HIGH = torch.tensor(-100.0), torch.tensor(100.0)


def never() -> bool:
    return False


class Problem:
    """Any scalar function in the shape of an attack's objective; points are (1, n)."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function

    def __call__(self, point: Tensor) -> Value:
        loss = self.function(point[0])
        return Value(loss, loss.detach()[None])

    def parameters(self) -> list[Tensor]:
        return []

    def renew(self, point: Tensor, step: int) -> bool:
        return False
