"""Recover features as vertices of the maximum-volume simplex inside the activation bounds.

In the notation of `factors`, no feature lies below the floor of its activation, 0 after ReLU or -1 after ELU, so the
images are K points of the polytope

    P = {m : (V m)_d >= floor for every feature d,   ones . m = 1}

in K - 1 dimensions, bounded by a half-space for each of thousands of features. Images differ in which features they
leave at the floor, so each lies at a vertex of P or close to one, and mixtures of images lie between them: the images
are approximately the K points of P that span the largest volume. The volume is linear in each point while the others
are fixed, so linear programs find them. No label is used; labels are read from the result (`joint.implied_labels`).

After ReLU the vertices are the images to rounding: hundreds of bounds meet in each. Features of smooth activations only
come close to the floor, which is raised in a few trials; the result is a start for `joint`.

Largest and smallest simplices are used in spectral unmixing (N-FINDR, Winter 1999; Craig 1994) and in separable
non-negative matrix factorisation. SPEAR (Dimitrov et al. 2024) uses the zeros of ReLU one by one, the Cocktail Party
Attack (Kariyappa et al. 2022) independence instead of bounds.
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

from deepleak_core.features.factors import FEW_BOUNDS, Factors
from deepleak_core.features.least_squares import never

FLOOR_SHARES = (1.0, 0.85, 0.7, 0.5, 0.35)  # of the floor, tried in turn: smooth features stay above it
SLACK = 1e-3  # typical heights by which rounding may put a feature below the floor
MEETING = 0.5  # slacks by which bounds may miss a point in which all of them meet
OUTSIDE = 3.0  # slacks below the floor from which a point violates a bound
NEAR = (5.0, 1.0, 0.2)  # slacks within which a bound is active at a vertex, in turn
DEAD_FEATURE = 1e-9  # length of a bound's normal, relative to the longest, below which it bounds nothing
SWEEPS = 20  # times every vertex is moved, at most; a few are enough
LEAST_GROWTH = 1e-2  # of the logarithm of the volume in a sweep, below which it was the last
FARTHEST = 100.0  # largest coordinate, relative to the length of the shared point, where the polytope is unbounded
MOST_IMAGES = 64  # up to which the linear programs are quick
CUTS = 20  # violated bounds that are added to a linear program at a time

Floats = npt.NDArray[np.float64]


def largest_simplices(
    factors: Factors, *, seed: int = 0, stop: Callable[[], bool] = never
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each trial the vertices m (K, K) of a largest simplex, and the bounds (n, K) that the programs needed.

    Yields nothing without a floor and a bias, for more than `MOST_IMAGES`, or once `stop` ends the search.
    """
    if factors.heights is None or factors.ones is None or factors.images > MOST_IMAGES:
        return
    if factors.images == 1:  # the only point with ones . m = 1
        yield (1 / factors.ones)[None], factors.heights
        return
    heights, ones = factors.heights.cpu().numpy(), factors.ones.cpu().numpy()
    floor = (factors.heights - factors.basis).cpu().numpy()  # (D, K): -floor times `ones`
    for trial, share in enumerate(FLOOR_SHARES):
        bounds = heights - (1 - share) * floor
        with threadpool_limits(1, user_api="blas"):  # the matrices are too small to be shared by threads
            polytope = Polytope(bounds, ones, np.random.default_rng((seed, trial)))
            vertices = polytope.largest_simplex(stop)
            if vertices is None:
                continue
            vertices = np.stack([polytope.sharpened(vertex) for vertex in vertices])
        active = torch.from_numpy(heights[polytope.working])
        yield torch.from_numpy(vertices).to(factors.basis), active.to(factors.basis)


class Polytope:
    """All m (K,) with bounds m >= -slack and ones . m = 1; the linear programs see the `working` bounds only.

    `bounds` is (D, K). The programs are solved in their dual form, with a row for each of the K coordinates and a
    column for each bound: another direction only changes the right-hand side, another bound adds a column, and the last
    solution is a feasible start.
    """

    def __init__(self, bounds: Floats, ones: Floats, random: np.random.Generator):
        """`bounds` is (D, K) and `ones` (K,); `random` chooses first directions and the first working bounds."""
        self.bounds, self.ones, self.random = bounds, ones, random
        rows, count = bounds.shape
        length = float(ones @ ones)
        self.slack = SLACK * float(np.abs(bounds @ ones).mean()) / length
        self.far = FARTHEST / length**0.5
        lengths = np.linalg.norm(bounds, axis=1)
        self.live = lengths > DEAD_FEATURE * lengths.max()
        extremes = np.concatenate([bounds.argmin(0), bounds.argmax(0)])
        some = random.choice(rows, min(rows, 6 * count), replace=False)
        self.working = np.arange(rows) if rows <= FEW_BOUNDS else np.unique(np.concatenate([extremes, some]))
        self.program = highspy.Highs()  # type: ignore[no-untyped-call]
        self.program.silent()
        self.program.setOptionValue("presolve", "off")
        for _ in range(count):
            self.program.addRow(0.0, 0.0, 0, np.zeros(0, np.int32), np.zeros(0))
        self._restrict(ones[None], 1.0, least=-highspy.kHighsInf)  # an equation: its multiplier has any sign
        self._restrict(np.concatenate([np.eye(count), -np.eye(count)]), self.far)
        self._restrict(-bounds[self.working], self.slack)

    def _restrict(self, normals: Floats, most: float, *, least: float = 0.0) -> None:
        """Require normals m <= most: a column of the dual for each of the normals (n, K)."""
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
        """K vertices (K, K) whose volume no move of a single one increases; None where P is flat, or once stopped."""
        if (found := self._first_simplex(stop)) is None:
            return None
        m, bases = found
        volume = np.linalg.slogdet(m)[1]
        for sweep in range(SWEEPS):
            for place in range(len(m)):
                if stop():
                    return None
                try:
                    height = np.linalg.inv(m)[:, place]  # the volume is proportional to height . vertex
                except np.linalg.LinAlgError:
                    return None
                for direction in (height, -height) if sweep == 0 else (height,):  # later, its side has been chosen
                    vertex = self.furthest(direction, bases[place])
                    if vertex is not None and abs(height @ vertex) > 1 + 1e-6:
                        m[place], bases[place] = vertex, self.program.getBasis()
                        break
            before, volume = volume, np.linalg.slogdet(m)[1]
            if volume - before < LEAST_GROWTH:
                break
        return m

    def _first_simplex(self, stop: Callable[[], bool]) -> tuple[Floats, list[highspy.HighsBasis]] | None:
        """K affinely independent vertices (K, K) and the bases of their programs; None as above.

        Each is searched in a random direction orthogonal to those before it.
        """
        m, bases = np.zeros((0, len(self.ones))), []
        for _ in self.ones:
            direction = self.random.normal(size=len(self.ones))
            spanned = np.linalg.qr(m.T)[0]
            direction -= spanned @ (spanned.T @ direction)
            vertex = None if stop() else self.furthest(direction)
            if vertex is not None and abs(direction @ vertex) < 1e-9 * np.linalg.norm(direction) * np.linalg.norm(
                vertex
            ):
                vertex = self.furthest(-direction)  # P has no extent on this side of the vertices before it
            if vertex is None:
                return None
            m = np.concatenate([m, vertex[None]])
            bases.append(self.program.getBasis())
        return m, bases

    def sharpened(self, vertex: Floats) -> Floats:
        """The point in which all bounds that are active at a vertex (K,) meet, if they do; after ReLU they do."""
        bounds = self.bounds[self.live]
        for near in NEAR:  # fewer and fewer bounds that are close without being active
            active = bounds[bounds @ vertex < near * self.slack]
            if len(active) <= len(vertex):  # so few meet in a point anyway
                break
            values, directions = np.linalg.svd(active, full_matrices=False)[1:]
            point = directions[-1] / (directions[-1] @ self.ones)
            met = values[-1] * np.linalg.norm(point) < MEETING * self.slack * len(active) ** 0.5
            if met and (bounds @ point).min() > -OUTSIDE * self.slack:
                vertex = point
        return vertex

    def furthest(
        self, direction: npt.NDArray[np.floating[Any]], basis: highspy.HighsBasis | None = None
    ) -> Floats | None:
        """The point (K,) furthest in a direction, by cutting planes; None where the polytope is empty.

        The linear program starts from the solution of the last one, or from a `basis` that an earlier one ended with.
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
            height = self.bounds @ point
            lowest = np.argsort(height)[:CUTS]
            violated = np.setdiff1d(lowest[height[lowest] < -OUTSIDE * self.slack], self.working)
            if not len(violated):
                return point
            self.working = np.union1d(self.working, violated)
            self._restrict(-self.bounds[violated], self.slack)
