"""Recognise that nothing moves any more, from what the attacker sees: its own images and the residual.

Two rules. A search that ends at a floor, as signed Adam does, is over where no image has moved visibly for a while and
the residual no longer falls (`until_still`). Any attack is over where the update is matched to rounding and no 8-bit
pixel value changes (`Solved`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import Stage
from deepleak_core.federated.case import Case

STILL = 0.25  # root mean square distance in 8-bit levels below which an image has not moved
STILL_SHARE = 0.04  # of all iterations for which no image may move before a search ends
STILL_STEPS = 15  # and at least so many iterations
FALLING = 0.95  # share of the smallest residual so far below which a residual counts as falling

SOLVED_RESIDUAL = 1e-10  # squared relative residual at which a float32 update is matched to rounding
SOLVED_STEPS = 5  # iterations at that level without a change of any 8-bit pixel value after which a run ends


def until_still(iterates: Iterator[Iterate | Stage], case: Case) -> Iterator[Iterate | Stage]:
    """The same iterates, up to the first after which nothing would move any more.

    A residual that keeps falling keeps the search alive, however little the images change.
    """
    reference: Tensor | None = None
    best, since = float("inf"), None
    for iterate in iterates:
        yield iterate
        if isinstance(iterate, Stage):
            continue
        images = _levels(case, iterate)
        if since is None or reference is None or _moved(images, reference) or iterate.residual < FALLING * best:
            reference, since, best = images, iterate, min(best, iterate.residual)
        elif iterate.step - since.step >= STILL_STEPS and iterate.progress - since.progress >= STILL_SHARE:
            return


class Unchanged:
    """Counts iterations in a row in which no 8-bit pixel value changes."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._pixels: Tensor | None = None
        self._steps = 0

    def steps(self, iterate: Iterate) -> int:
        """How many iterations ago a pixel value changed for the last time; to be asked at every iterate."""
        pixels = _levels(self._case, iterate).round()
        same = self._pixels is not None and torch.equal(pixels, self._pixels)
        self._pixels, self._steps = pixels, self._steps + iterate.since if same else 0
        return self._steps


class Solved:
    """Recognises that an attack has solved for the images: see `SOLVED_RESIDUAL` and `SOLVED_STEPS`."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._unchanged = Unchanged(case)

    def reached(self, iterate: Iterate) -> bool:
        """Whether this iterate is at least the `SOLVED_STEPS`-th in a row without a change."""
        if iterate.residual > SOLVED_RESIDUAL:
            self._unchanged = Unchanged(self._case)
            return False
        return self._unchanged.steps(iterate) >= SOLVED_STEPS


def _levels(case: Case, iterate: Iterate) -> Tensor:
    """The images (B, C, H, W) of the restart with the smallest residual, in 8-bit levels from 0 to 255."""
    return case.model.denormalise(iterate.inputs[iterate.best]).clamp(0, 1) * 255


def _moved(images: Tensor, reference: Tensor) -> bool:
    return bool((images - reference).square().flatten(1).mean(1).max() > STILL**2)
