"""Images told apart by what activations cannot be: the largest simplex within the bounds of all features.

Every feature vector of a batch lies in the row space of the last layer's gradient, f = V m (`separation`), and no
feature is below the floor of its activation, 0 after ReLU or -1 after ELU. So the images are K points of

    P = {m : (V m)_d >= floor for every feature d,   the bias's feature is 1},

a polytope in K - 1 dimensions with one wall for each of thousands of features. Images differ in which features they
leave at the floor, so each lies in a corner of its own, or close to one, and mixtures of images lie between them:
the images are about the K points of P that span the most volume. Those are found by linear programs, since the
volume is linear in each point while the others rest. No label is used, none has to be known, and the labels are read
off the result (`together.read_labels`).

After ReLU the corners are the images, to rounding: hundreds of walls meet in each. Elsewhere the floor is only come
near to, and is raised in a few trials; what is found then is a start for `together`, or a hint at the labels.

Relatives: largest and smallest simplices are how mixed pixels are told apart in remote sensing (Winter 1999; Craig
1994) and how separable non-negative matrices are factored; SPEAR (Dimitrov et al. 2024) uses the zeros of ReLU one
by one, the Cocktail Party Attack (Kariyappa et al. 2022) independence in place of bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import highspy
import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from deepleak_core.features.one_by_one import Factors

SHARES = (1.0, 0.85, 0.7, 0.5, 0.35)  # of the floor, tried in turn: features of smooth activations stay above it
SLACK = 1e-3  # of a typical height: how far below the floor rounding may put a feature
MEETING = 0.5  # of the slack: how far walls may miss a point that all of them meet in
SWEEPS = 20  # times every corner is moved, at most; a few are enough
FAR = 100.0  # size of the coordinates allowed, in units of the shortest that end in 1, where walls leave a side open
LARGEST = 64  # images up to which the linear programs are quick
ROWS = 300  # features up to which all are walls from the beginning

Floats = npt.NDArray[np.float64]


def largest_simplices(
    factors: Factors, *, seed: int = 0, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each trial the corners m (K, K) of a largest simplex, and the walls (n, K) it is held by.

    Nothing is yielded without a floor and a bias, or where there are too many images.
    """
    if factors.heights is None or factors.ones is None or factors.images > LARGEST:
        return
    if factors.images == 1:  # the only point that ends in 1
        yield (1 / factors.ones)[None], factors.heights
        return
    heights, ones = factors.heights.cpu().numpy(), factors.ones.cpu().numpy()
    floor = (factors.heights - factors.basis).cpu().numpy()  # (D, K): -floor times the row that makes ones
    for trial, share in enumerate(SHARES):
        walls = heights - (1 - share) * floor
        with threadpool_limits(1, user_api="blas"):  # threads that share so small matrices wait for each other
            polytope = _Polytope(walls, ones, np.random.default_rng((seed, trial)))
            corners = polytope.largest_simplex(stop)
            if corners is None:
                continue
            corners = np.stack([polytope.sharpened(corner) for corner in corners])
        tight = torch.from_numpy(heights[polytope.working])
        yield torch.from_numpy(corners).to(factors.basis), tight.to(factors.basis)


class _Polytope:
    """All m with walls m >= -slack and ones . m = 1; of the walls, the linear programs see the `working` ones.

    The programs are solved as their duals, with a row for each of the K coordinates and a column for each wall: then
    another direction only changes the right-hand side, a wall is one more column, and the last solution is a start.
    """

    def __init__(self, walls: Floats, ones: Floats, random: np.random.Generator):
        self.walls, self.ones, self.random = walls, ones, random
        rows, count = walls.shape
        length = float(ones @ ones)
        self.slack = SLACK * float(np.abs(walls @ ones).mean()) / length
        self.far = FAR / length**0.5
        extremes = np.concatenate([walls.argmin(0), walls.argmax(0)])
        some = random.choice(rows, min(rows, 6 * count), replace=False)
        self.working = np.arange(rows) if rows <= ROWS else np.unique(np.concatenate([extremes, some]))
        self.program = highspy.Highs()  # type: ignore[no-untyped-call]
        self.program.silent()
        self.program.setOptionValue("presolve", "off")
        for _ in range(count):
            self.program.addRow(0.0, 0.0, 0, np.zeros(0, np.int32), np.zeros(0))
        self.bound(ones[None], 1.0, least=-highspy.kHighsInf)  # an equation: its multiplier has any sign
        self.bound(np.concatenate([np.eye(count), -np.eye(count)]), self.far)
        self.bound(-walls[self.working], self.slack)

    def bound(self, normals: Floats, most: float, *, least: float = 0.0) -> None:
        """Hold points to normals m <= most: a column of the dual for each of the normals (n, K)."""
        columns, count = normals.shape
        self.program.addCols(
            columns,
            np.full(columns, most),
            np.full(columns, least),
            np.full(columns, highspy.kHighsInf),
            columns * count,
            np.arange(0, columns * count, count, dtype=np.int32),
            np.tile(np.arange(count, dtype=np.int32), columns),
            np.ascontiguousarray(normals).ravel(),
        )

    def largest_simplex(self, stop: Callable[[], bool]) -> Floats | None:
        """K corners (K, K) that no move of a single one makes span more; None where there is no room, or no time."""
        if (found := self.some_simplex(stop)) is None:
            return None
        m, bases = found
        volume = np.linalg.slogdet(m)[1]
        for sweep in range(SWEEPS):
            for place in range(len(m)):
                if stop():
                    return None
                try:
                    height = np.linalg.inv(m)[:, place]  # how the volume, in units of today's, depends on the corner
                except np.linalg.LinAlgError:
                    return None
                for direction in (height, -height) if sweep == 0 else (height,):  # later, its side has been chosen
                    corner = self.furthest(direction, bases[place])
                    if corner is not None and abs(height @ corner) > 1 + 1e-6:
                        m[place], bases[place] = corner, self.program.getBasis()
                        break
            before, volume = volume, np.linalg.slogdet(m)[1]
            if volume - before < 1e-2:
                break
        return m

    def some_simplex(self, stop: Callable[[], bool]) -> tuple[Floats, list[highspy.HighsBasis]] | None:
        """K corners (K, K) that span something, and the bases of the programs they came from; or None as above.

        Each is sought at a right angle to those before it, where they cannot be found again.
        """
        m, bases = np.zeros((0, len(self.ones))), []
        for _ in self.ones:
            away = self.random.normal(size=len(self.ones))
            spanned = np.linalg.qr(m.T)[0]
            away -= spanned @ (spanned.T @ away)
            corner = None if stop() else self.furthest(away)
            if corner is not None and abs(away @ corner) < 1e-9 * np.linalg.norm(away) * np.linalg.norm(corner):
                corner = self.furthest(-away)  # no corner is on this side of those before it
            if corner is None:
                return None
            m = np.concatenate([m, corner[None]])
            bases.append(self.program.getBasis())
        return m, bases

    def sharpened(self, corner: Floats) -> Floats:
        """Where all the walls that a corner (K,) leans on meet, if they do in one point: after ReLU they do."""
        for near in (5.0, 1.0, 0.2):  # nearer ever better: fewer walls that only pass by
            leaning = self.walls[self.walls @ corner < near * self.slack]
            if len(leaning) <= len(corner):  # as few meet anyhow
                break
            values, directions = np.linalg.svd(leaning, full_matrices=False)[1:]
            point = directions[-1] / (directions[-1] @ self.ones)
            met = values[-1] * np.linalg.norm(point) < MEETING * self.slack * len(leaning) ** 0.5
            if met and (self.walls @ point).min() > -3 * self.slack:
                corner = point
        return corner

    def furthest(
        self, direction: npt.NDArray[np.floating[Any]], basis: highspy.HighsBasis | None = None
    ) -> Floats | None:
        """The point that lies furthest in a direction, by cutting planes; None where no point is within all walls.

        The search starts from the last one's end, or from a `basis` that an earlier one ended with.
        """
        if basis is not None:
            later = self.program.getNumCol() - len(basis.col_status)
            basis.col_status = [*basis.col_status, *[highspy.HighsBasisStatus.kLower] * later]
            self.program.setBasis(basis)
        for row, value in enumerate(direction / np.linalg.norm(direction)):
            self.program.changeRowBounds(row, value, value)
        while True:
            self.program.run()
            if self.program.getModelStatus() != highspy.HighsModelStatus.kOptimal:
                return None
            point: Floats = np.array(self.program.getSolution().row_dual)
            height = self.walls @ point
            worst = np.argsort(height)[:20]
            crossed = np.setdiff1d(worst[height[worst] < -3 * self.slack], self.working)
            if not len(crossed):
                return point
            self.working = np.union1d(self.working, crossed)
            self.bound(-self.walls[crossed], self.slack)
