"""Solve for the features of all images of a batch at once, from the labels that the factors of the gradient imply.

In the notation of `factors`, with M the matrix of the m_k, the signals are the rows of A = M^-T S U^T. A signal is
prediction minus label, and predictions follow from features as well, so the label vector that M implies for image k is

    y_k(M) = softmax(W V m_k + b) - a_k(M),

one-hot at the true features: K C equations for the K^2 unknowns in M. Features below the floor of the activation are
penalised, which makes the search succeed from a few random starts instead of hardly ever. An upper bound on the mean
height of an image above the floor rejects spurious solutions with unrealistically large features.

`solve_together` moves many starts at once by dense Levenberg-Marquardt. `solve_large` moves one start of a batch of
dozens of images without a normal matrix, far enough for `separate` to continue. There, images whose implied label is
not clear at the start are left out until the others are explained, since one label fixed too early spoils the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deepleak_core.features.factors import Factors, softmax_slopes
from deepleak_core.features.least_squares import (
    Linearised,
    Quadratics,
    levenberg_marquardt,
    matrix_free_levenberg_marquardt,
    never,
)

OPEN = -1  # in place of a label: the class that the features imply
FLOOR_WEIGHT = 0.1  # residual of a feature that lies a typical height below its floor; a label off by one counts 1
LARGEST_MEAN_HEIGHT = 6.0  # of an image's features, in typical heights
CONJUGATE_STEPS = 100  # conjugate gradients in a step of `solve_large`, at most
CONJUGATE_ACCURACY = 1e-6  # share of the energy that they may leave
NEAR_SOLUTION = 1e-4  # squared residual of a large batch from which `separate` reaches the solution
LABEL_MARGIN = 0.3  # by which an implied label must exceed the next class before it counts
STALLED_GAIN = 1e-3  # relative reduction of the squared residual below which `solve_large` ends


def implied_labels(factors: Factors, m: Tensor) -> Tensor:
    """Label vectors (T, K, C) that coordinates m (T, K, K) imply; one-hot at the true features."""
    p, signals, _ = _predictions(factors, m)
    return p - signals


def solve_together(
    factors: Factors,
    m: Tensor,
    labels: Tensor,
    *,
    bounds: Tensor | None = None,
    among: Tensor | None = None,
    iterations: int = 60,
    enough: float = 0.0,
    stop: Callable[[], bool] = never,
) -> tuple[Tensor, Tensor]:
    """Move T starts m (T, K, K) to where implied labels are one-hot at `labels` (T, K), or at any class where `OPEN`.

    `bounds` (n, K) are rows of `factors.heights` that are kept from becoming negative. Open labels are restricted to
    the classes `among` (C,) where that is given. Returns coordinates and squared residuals (T,): at rounding level for
    the right labels, orders of magnitude above it for others.
    """
    equations = label_equations(factors, bounds, among)
    ends, costs = levenberg_marquardt(equations, m.flatten(1), labels, iterations=iterations, enough=enough, stop=stop)
    return ends.view_as(m), costs


def label_equations(factors: Factors, bounds: Tensor | None = None, among: Tensor | None = None) -> Quadratics:
    """The equations at the head of this module, for points (T, K * K) and labels (T, K).

    The Jacobian (K C x K^2) is never formed: the normal matrix has a product structure.
    """
    count, places = factors.images, torch.arange(factors.images)
    scale, squares = 0.0, torch.zeros(0)
    if bounds is not None:
        scale = FLOOR_WEIGHT / _typical_height(factors, bounds)
        bounds = torch.cat([bounds, _height_limit(factors)[None]])
        squares = (bounds[:, :, None] * bounds[:, None, :]).flatten(1)
    excluded = torch.zeros_like(factors.offset) if among is None else torch.where(among, 0.0, -torch.inf)

    def quadratics(flat: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m = flat.view(-1, count, count)
        p, a, duals = _predictions(factors, m)
        implied = p - a
        assumed = torch.where(labels == OPEN, (implied + excluded).argmax(-1), labels)
        residual = implied - one_hot(assumed, p.shape[-1]).to(implied)
        slopes = softmax_slopes(p, factors.logit_map)  # (T, K, C, K)
        # A step d in m_l moves a_k by -(dual_k . d) a_l, so d y_k / d m_l = dual_k a_l^T, plus dp_k / dm_k for l = k.
        cost = residual.square().sum((1, 2))
        gradient = torch.einsum("tkj,tkc,tlc->tlj", duals, residual, a)
        gradient = gradient + torch.einsum("tkcj,tkc->tkj", slopes, residual)
        normal = (a @ a.mT)[:, :, None, :, None] * (duals.mT @ duals)[:, None, :, None, :]
        mixed = (slopes.mT @ a.mT[:, None])[..., None] * duals[:, :, None, None]
        mixed = mixed.reshape(-1, count**2, count**2)
        normal = normal.reshape(mixed.shape).add_(mixed).add_(mixed.mT).view(-1, count, count, count, count)
        own = slopes.mT @ slopes  # (T, K, K, K): the diagonal block of each image
        if factors.ones is not None:
            excess = m @ factors.ones - 1
            cost = cost + excess.square().sum(1)
            gradient = gradient + excess[..., None] * factors.ones
            own = own + factors.ones[:, None] * factors.ones
        if bounds is not None:
            below = (m @ bounds.T).clamp_max(0)
            cost = cost + scale**2 * below.square().sum((1, 2))
            gradient = gradient + scale**2 * below @ bounds
            own = own + scale**2 * ((below < 0).to(squares) @ squares).view_as(own)
        normal[:, places, :, places, :] += own.transpose(0, 1)
        return cost, gradient.flatten(1), normal.reshape(len(m), count**2, count**2)

    return quadratics


def solve_large(
    factors: Factors,
    m: Tensor,
    *,
    margin: float = LABEL_MARGIN,
    iterations: int = 40,
    enough: float = NEAR_SOLUTION,
    stop: Callable[[], bool] = never,
) -> tuple[Tensor, float]:
    """Move one start m (K, K) to where implied labels are one-hot at any class and features above their floor.

    Images whose implied label exceeds the next class by less than `margin` do not count until the others are
    explained. Needs a bias and a floor. Returns coordinates and the squared residual of all images, once that is at
    most `enough` or no longer falls.
    """
    for least in (margin, 0.0):
        equations = large_label_equations(factors, least)
        m = matrix_free_levenberg_marquardt(
            equations,
            m,
            iterations=iterations,
            conjugate=CONJUGATE_STEPS,
            accuracy=CONJUGATE_ACCURACY,
            enough=enough,
            settled=STALLED_GAIN,
            stop=stop,
        )
        if stop():
            break
    return m, large_label_equations(factors, 0.0)(m).cost


def large_label_equations(factors: Factors, margin: float) -> Callable[[Tensor], Linearised]:
    """The equations under open labels of all images whose implied label exceeds the next class by `margin`."""
    heights = factors.heights
    assert heights is not None, "only bias and floor keep dozens of images apart"
    bounds = heights * (FLOOR_WEIGHT / factors.typical_height)

    def linearise(m: Tensor) -> Linearised:
        return _Implied.of(factors, bounds, m).linearised(factors, bounds, margin)

    return linearise


@dataclass(frozen=True)
class _Implied:
    """Implied labels at one point M (K, K) and their residuals, with features at weighted `bounds` (n, K)."""

    p: Tensor  # predictions (K, C)
    signals: Tensor  # (K, C)
    duals: Tensor  # M^-T (K, K)
    residual: Tensor  # implied labels minus the nearest one-hot ones (K, C)
    margins: Tensor  # by how much the implied label exceeds the next class (K,)
    excess: Tensor  # ones . m - 1 (K,)
    below: Tensor  # weighted heights where they are negative, else 0 (K, n)

    @classmethod
    def of(cls, factors: Factors, bounds: Tensor, m: Tensor) -> _Implied:
        p, signals, duals = (values[0] for values in _predictions(factors, m[None]))
        implied = p - signals
        likeliest = implied.topk(2, dim=1)
        residual = implied - one_hot(likeliest.indices[:, 0], p.shape[1]).to(p)
        margins = likeliest.values[:, 0] - likeliest.values[:, 1]
        assert factors.ones is not None, "features are defined by the bias"
        return cls(p, signals, duals, residual, margins, m @ factors.ones - 1, (m @ bounds.T).clamp_max(0))

    def cost(self, counting: Tensor) -> float:
        """The squared residual of images that are `counting` (K,); infinite where M has no inverse."""
        squares = self.residual[counting].square().sum() + self.excess.square().sum() + self.below.square().sum()
        return float(squares.nan_to_num(torch.inf))

    def linearised(self, factors: Factors, bounds: Tensor, margin: float) -> Linearised:
        ones = factors.ones
        assert ones is not None, "features are defined by the bias"
        counting = self.margins >= margin
        a, weights = self.signals, counting.to(self.p)[:, None]
        duals = self.duals * weights
        violated = self.below.amin(0) < 0
        active, below = bounds[violated], self.below[:, violated]
        negative = (below < 0).to(below)
        slopes = softmax_slopes(self.p, factors.logit_map) * weights[..., None]

        def transposed(residual: Tensor, excess: Tensor, below: Tensor) -> Tensor:
            pulled = (slopes.mT @ residual[..., None])[..., 0] + (a @ residual.T) @ duals
            return pulled + excess[:, None] * ones + below @ active

        def product(step: Tensor) -> Tensor:
            change = (slopes @ step[..., None])[..., 0] + (duals @ step.T) @ a
            return transposed(change, step @ ones, (step @ active.T) * negative)

        own = slopes + a[:, :, None] * duals[:, None]
        # A step in m_k moves the implied labels of all other images l as well, by (dual_l . d) a_k.
        crossing = (duals.T @ duals) - duals[:, :, None] * duals[:, None]
        blocks = own.mT @ own + a.square().sum(1)[:, None, None] * crossing + ones[:, None] * ones
        blocks = blocks + torch.stack([(active * on[:, None]).T @ active for on in negative])
        return Linearised(
            cost=self.cost(counting),
            gradient=transposed(self.residual, self.excess, below),
            product=product,
            blocks=blocks,
            cost_at=lambda m: _Implied.of(factors, bounds, m).cost(counting),
        )


def _predictions(factors: Factors, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions (T, K, C), signals (T, K, C) and the dual basis M^-T (T, K, K) at coordinates m (T, K, K)."""
    duals = torch.linalg.inv_ex(m)[0].mT
    signals = (duals * factors.singular_values) @ factors.left.T
    return factors.probabilities(m), signals, duals


def _height_limit(factors: Factors) -> Tensor:
    """A bound (K,) that is negative where an image's mean height exceeds `LARGEST_MEAN_HEIGHT` typical heights."""
    heights, ones = factors.heights, factors.ones
    assert heights is not None, "heights are defined by a bias and a floor"
    assert ones is not None, "heights are defined by a bias and a floor"
    return LARGEST_MEAN_HEIGHT * factors.typical_height * ones - heights.mean(0)


def _typical_height(factors: Factors, bounds: Tensor) -> float:
    """Mean absolute height of the features in `bounds` (n, K) at the point that all images share."""
    shared = factors.shared_point
    assert shared is not None, "heights are defined by the bias"
    return float((bounds @ shared).abs().mean())
