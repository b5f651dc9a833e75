"""Images told apart by what activations cannot be: the largest simplex within the bounds of all features.

Every feature vector of a batch lies in the row space of the last layer's gradient, f = V m (`separation`), and no
feature is below the floor of its activation, 0 after ReLU or -1 after ELU. So the images are K points of

    P = {m : (V m)_d >= floor for every feature d,   the bias's feature is 1},

a polytope in K - 1 dimensions with one wall for each of thousands of features. Images differ in which features they
leave at the floor, so each lies in a corner of its own, or close to one, and mixtures of images lie between them:
the images are about the K points of P that span the most volume. Those are found by linear programs, since the
volume is linear in each point while the others rest. No label is used, none has to be known, and the labels are read
off the result (`together.read_labels`).

After ReLU the corners are the images, to rounding. Elsewhere the floor is only come near to, and is raised in a few
trials; what is found then is a start for `together`, or a hint at the labels.

Relatives: largest and smallest simplices are how mixed pixels are told apart in remote sensing (Winter 1999; Craig
1994) and how separable non-negative matrices are factored; SPEAR (Dimitrov et al. 2024) uses the zeros of ReLU one
by one, the Cocktail Party Attack (Kariyappa et al. 2022) independence in place of bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linprog
from torch import Tensor

from deepleak_core.separation import Factors

SHARES = (1.0, 0.85, 0.7, 0.5, 0.35)  # of the floor, tried in turn: features of smooth activations stay above it
SLACK = 1e-3  # of a typical height: how far below the floor rounding may put a feature
SWEEPS = 20  # times every corner is moved, at most; a few are enough
FAR = 100.0  # size of the coordinates allowed, in units of the shortest that end in 1, where walls leave a side open
LARGEST = 32  # images up to which the linear programs are quick
ROWS = 300  # features up to which all are walls from the beginning

Floats = npt.NDArray[np.float64]


def largest_simplices(
    factors: Factors, *, seed: int = 0, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each trial the corners m (K, K) of a largest simplex, and the walls (n, K) it is held by.

    Nothing is yielded without a floor and a bias, or where there are too few or too many images.
    """
    if factors.heights is None or factors.ones is None or not 2 <= factors.images <= LARGEST:
        return
    heights, ones = factors.heights.cpu().numpy(), factors.ones.cpu().numpy()
    floor = (factors.heights - factors.basis).cpu().numpy()  # (D, K): -floor times the row that makes ones
    for trial, share in enumerate(SHARES):
        walls = heights - (1 - share) * floor
        polytope = _Polytope(walls, ones, np.random.default_rng((seed, trial)))
        corners = polytope.largest_simplex(stop)
        if corners is not None:
            tight = torch.from_numpy(heights[polytope.working])
            yield torch.from_numpy(corners).to(factors.basis), tight.to(factors.basis)


class _Polytope:
    """All m with walls m >= -slack and ones . m = 1; of the walls, the linear programs see the `working` ones."""

    def __init__(self, walls: Floats, ones: Floats, random: np.random.Generator):
        self.walls, self.ones, self.random = walls, ones, random
        rows, count = walls.shape
        length = float(ones @ ones)
        self.slack = SLACK * float(np.abs(walls @ ones).mean()) / length
        self.far = FAR / length**0.5
        extremes = np.concatenate([walls.argmin(0), walls.argmax(0)])
        some = random.choice(rows, min(rows, 6 * count), replace=False)
        self.working = np.arange(rows) if rows <= ROWS else np.unique(np.concatenate([extremes, some]))

    def largest_simplex(self, stop: Callable[[], bool]) -> Floats | None:
        """K corners (K, K) that no move of a single one makes span more; None where there is no room, or no time."""
        count = len(self.ones)
        corners = [None if stop() else self.furthest(self.random.normal(size=count)) for _ in range(count)]
        if any(corner is None for corner in corners):
            return None
        m = np.stack([corner for corner in corners if corner is not None])
        for _ in range(SWEEPS):  # random directions often lead into the same corner
            if np.linalg.cond(m) < 1e9:
                break
            if (corner := self.furthest(self.random.normal(size=count))) is not None:
                m[self.random.integers(count)] = corner
        volume = np.linalg.slogdet(m)[1]
        for _ in range(SWEEPS):
            for place in range(count):
                if stop():
                    return None
                try:
                    height = np.linalg.inv(m)[:, place]  # how the volume, in units of today's, depends on the corner
                except np.linalg.LinAlgError:
                    return None
                for direction in (height, -height):
                    corner = self.furthest(direction / np.linalg.norm(direction))
                    if corner is not None and abs(height @ corner) > 1 + 1e-6:
                        m[place] = corner
                        break
            before, volume = volume, np.linalg.slogdet(m)[1]
            if volume - before < 1e-2:
                break
        return m

    def furthest(self, direction: Floats) -> Floats | None:
        """The point that lies furthest in a direction, by cutting planes; None where no point is within all walls."""
        while True:
            found = linprog(
                -direction,
                A_ub=-self.walls[self.working],
                b_ub=np.full(len(self.working), self.slack),
                A_eq=self.ones[None],
                b_eq=[1.0],
                bounds=(-self.far, self.far),
                method="highs-ds",
            )
            if found.status != 0:
                return None
            point: Floats = found.x
            height = self.walls @ point
            worst = np.argsort(height)[:20]
            crossed = np.setdiff1d(worst[height[worst] < -3 * self.slack], self.working)
            if not len(crossed):
                return point
            self.working = np.union1d(self.working, crossed)
