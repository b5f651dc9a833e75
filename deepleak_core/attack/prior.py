"""The registry entry of an image prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from deepleak_core.federated.case import Case

Term = Callable[[Tensor], Tensor]  # inputs (R, B, C, H, W) to a scalar, by operations that are the same in each call


@dataclass(frozen=True, kw_only=True)
class Prior:
    """A prior by name: `term` makes its function for a case, None where the prior has nothing to say about it."""

    title: str
    summary: str
    source: str
    term: Callable[[Case], Term | None]
