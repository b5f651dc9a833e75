"""All images of a batch looked for at once, in the factors of the last layer's gradient.

Features m_k and signals c_k of K images are biorthogonal in the factors (`separation`), so features alone tell the
signals: with M the matrix of the m_k, the signals are the rows of `A = M^-T S U^T`. A signal is predictions minus
label, a_k = p_k - e_{y_k}, and predictions follow from features as well. What the factors *read* as image k's label,

    y_k(M) = softmax(W V m_k + b) - a_k(M),

is a one-hot vector at the truth: K C equations for the K^2 unknowns in M, solved by Levenberg-Marquardt from many
starts side by side. That activations have a floor (`LastLayer.floor`) holds solutions to where features can be, which
turns a search that hardly ever arrives into one that does from every few starts. So does a ceiling over an image's
brightness, its mean height above the floor: without one, an image that the network is sure of and that hardly shows
gives way to ever brighter ones that show as little.

Labels may be assumed, or left open (`OPEN`): then each image has the one it is nearest to.

Of dozens of images the normal matrix has no room, or would take seconds to factor: `solve_for_many` moves a single
start by conjugate gradients instead, far enough for `disaggregation` to go on from. There a label assumed too early is
what spoils the batch: the one or two images that do not read clearly at the start are left out until the others are
explained, which makes them read clearly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deepleak_core.features.one_by_one import Factors, Quadratics, conjugate_gradients, levenberg_marquardt, tangents_of

OPEN = -1  # in place of a label: the one that is read
WALL_WEIGHT = 0.1  # of a typical feature below its floor, beside a label that is wrong by one
BRIGHTEST = 6.0  # times a typical feature's height: that of an image's features on average, at most
CONJUGATE = 100  # conjugate gradients for one step, at most
ACCURATE = 1e-6  # of the energy that a step leaves behind, from which it is good enough
NEAR = 1e-4  # squared residual of many images, from which other solvers go on
MARGIN = 0.3  # by which the label read must be above the next one, before it is believed
STALLED = 1e-3  # of the squared residual: after a step that gains less, all images count, and with all it was the last


def read_labels(factors: Factors, m: Tensor) -> Tensor:
    """What the factors read as each image's label, (T, K, C), at coordinates m (T, K, K): one-hot at the truth."""
    predicted, signals, _ = _read(factors, m)
    return predicted - signals


def solve_together(
    factors: Factors,
    m: Tensor,
    labels: Tensor,
    *,
    walls: Tensor | None = None,
    among: Tensor | None = None,
    iterations: int = 60,
    enough: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Move T starts m (T, K, K) to where the labels read are one-hot at `labels` (T, K), or anywhere where `OPEN`.

    `walls` (n, K) are rows of `factors.heights`, what features are above their floor, to be kept from going negative;
    with them comes the ceiling.
    `among` (C,) says which classes labels that are open may be of; any, if not given.
    Returns coordinates and squared residuals (T,): rounding noise under the right labels, far more under others.
    """
    problems = label_equations(factors, walls, among)
    ends, costs = levenberg_marquardt(problems, m.flatten(1), labels, iterations=iterations, enough=enough)
    return ends.view_as(m), costs


def label_equations(factors: Factors, walls: Tensor | None = None, among: Tensor | None = None) -> Quadratics:
    """The equations at the head of this module, for points (T, K * K) and labels (T, K).

    Their normal matrices have a product structure, so that no Jacobian (K C x K^2) is ever written down.
    """
    count, places = factors.images, torch.arange(factors.images)
    scale, push = 0.0, torch.zeros(0)
    if walls is not None:
        scale = WALL_WEIGHT / _typical_height(factors, walls)
        walls = torch.cat([walls, _ceiling(factors)[None]])
        push = (walls[:, :, None] * walls[:, None, :]).flatten(1)
    barred = torch.zeros_like(factors.offset) if among is None else torch.where(among, 0.0, -torch.inf)

    def quadratics(flat: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m = flat.view(-1, count, count)
        p, a, duals = _read(factors, m)
        read = p - a
        assumed = torch.where(labels == OPEN, (read + barred).argmax(-1), labels)
        residual = read - one_hot(assumed, p.shape[-1]).to(read)
        tangents = tangents_of(p, factors.logit_map)  # (T, K, C, K)
        # Moving m_l by d moves a_k by -(dual_k . d) a_l: d read_k / d m_l = dual_k a_l^T, and dp_k / dm_k on top.
        cost = residual.square().sum((1, 2))
        gradient = torch.einsum("tkj,tkc,tlc->tlj", duals, residual, a)
        gradient = gradient + torch.einsum("tkcj,tkc->tkj", tangents, residual)
        # By blocks l, m of images: products of small matrices, which broadcasting multiplies out in one go.
        normal = (a @ a.mT)[:, :, None, :, None] * (duals.mT @ duals)[:, None, :, None, :]
        mixed = (tangents.mT @ a.mT[:, None])[..., None] * duals[:, :, None, None]
        mixed = mixed.reshape(-1, count**2, count**2)
        normal = normal.reshape(mixed.shape).add_(mixed).add_(mixed.mT).view(-1, count, count, count, count)
        own = tangents.mT @ tangents  # (T, K, K, K): each image's block
        if factors.ones is not None:
            excess = m @ factors.ones - 1
            cost = cost + excess.square().sum(1)
            gradient = gradient + excess[..., None] * factors.ones
            own = own + factors.ones[:, None] * factors.ones
        if walls is not None:
            below = (m @ walls.T).clamp_max(0)
            cost = cost + scale**2 * below.square().sum((1, 2))
            gradient = gradient + scale**2 * below @ walls
            own = own + scale**2 * ((below < 0).to(push) @ push).view_as(own)
        normal[:, places, :, places, :] += own.transpose(0, 1)
        return cost, gradient.flatten(1), normal.reshape(len(m), count**2, count**2)

    return quadratics


def solve_for_many(
    factors: Factors,
    m: Tensor,
    *,
    margin: float = MARGIN,
    iterations: int = 40,
    enough: float = NEAR,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Tensor, float]:
    """Move one start m (K, K) to where the labels read are one-hot anywhere and features above their floor.

    As `solve_together` under `OPEN` labels, without a normal matrix: each image's own block of it is the
    preconditioner. Images whose label is read by less than a `margin` do not count, until those that do are explained.
    Returns coordinates and the squared residual of all, once that is `enough` or does not fall any more.
    """
    heights, ones, damping = factors.heights, factors.ones, 1e-2
    assert heights is not None and ones is not None, "only bias and floor keep dozens of images apart"
    walls = heights * (WALL_WEIGHT / _typical_height(factors, heights))
    here = _Reading.of(factors, walls, ones, m)
    for _ in range(iterations):
        counting = here.margins >= margin
        before, after = here.cost(counting), torch.inf
        curved, gradient, blocks = here.linearised(factors, walls, ones, counting)
        diagonal = blocks.diagonal(dim1=1, dim2=2)
        while not after < before and damping < 1e10 and not stop():
            step = conjugate_gradients(curved, gradient, blocks, damping * diagonal, most=CONJUGATE, accurate=ACCURATE)
            there = _Reading.of(factors, walls, ones, m + step)
            after = there.cost(counting)
            damping = max(damping / 5, 1e-14) if after < before else damping * 4
        if after < before:
            m, here = m + step, there
        if stop() or here.cost() < enough:
            break
        if after > (1 - STALLED) * before:
            if counting.all():
                break
            margin, damping = 0.0, 1e-2
    return m, here.cost()


@dataclass(frozen=True)
class _Reading:
    """What is read at one point M (K, K), and by how much it is off."""

    p: Tensor  # predictions (K, C)
    signals: Tensor  # (K, C)
    duals: Tensor  # M^-T (K, K)
    off: Tensor  # labels read minus the nearest one-hot ones (K, C)
    margins: Tensor  # by how much the label read is above the next one (K,)
    excess: Tensor  # by which the bias's feature is above 1 (K,)
    below: Tensor  # heights below each of n walls, not above 0 (K, n)

    @classmethod
    def of(cls, factors: Factors, walls: Tensor, ones: Tensor, m: Tensor) -> _Reading:
        """At coordinates m (K, K), with weighted `walls` (n, K)."""
        p, signals, duals = (of[0] for of in _read(factors, m[None]))
        read = p - signals
        likeliest = read.topk(2, dim=1)
        off = read - one_hot(likeliest.indices[:, 0], p.shape[1]).to(p)
        margins = likeliest.values[:, 0] - likeliest.values[:, 1]
        return cls(p, signals, duals, off, margins, m @ ones - 1, (m @ walls.T).clamp_max(0))

    def cost(self, counting: Tensor | None = None) -> float:
        """The squared residual, of all labels or those of images that are `counting` (K,); infinite without M^-1."""
        off = self.off if counting is None else self.off[counting]
        squares = off.square().sum() + self.excess.square().sum() + self.below.square().sum()
        return float(squares.nan_to_num(torch.inf))

    def linearised(
        self, factors: Factors, walls: Tensor, ones: Tensor, counting: Tensor
    ) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
        """The normal matrix as a product with steps (K, K), the gradient (K, K), and each image's block (K, K, K).

        Of labels, those of images that are `counting` (K,).
        """
        p, a, weights = self.p, self.signals, counting.to(self.p)[:, None]
        duals = self.duals * weights
        hit = self.below.amin(0) < 0
        pushing, below = walls[hit], self.below[:, hit]
        leaning = (below < 0).to(below)
        tangents = tangents_of(p, factors.logit_map) * weights[..., None]

        def pulled(off: Tensor, excess: Tensor, below: Tensor) -> Tensor:
            turned = (tangents.mT @ off[..., None])[..., 0] + (a @ off.T) @ duals
            return turned + excess[:, None] * ones + below @ pushing

        def curved(step: Tensor) -> Tensor:
            change = (tangents @ step[..., None])[..., 0] + (duals @ step.T) @ a
            return pulled(change, step @ ones, (step @ pushing.T) * leaning)

        own = tangents + a[:, :, None] * duals[:, None]
        # Moving m_k moves the labels read of all others as well, by -(dual_l . d) a_k.
        crossing = (duals.T @ duals) - duals[:, :, None] * duals[:, None]
        blocks = own.mT @ own + a.square().sum(1)[:, None, None] * crossing + ones[:, None] * ones
        blocks = blocks + torch.stack([(pushing * on[:, None]).T @ pushing for on in leaning])
        return curved, pulled(self.off, self.excess, below), blocks


def _read(factors: Factors, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions (T, K, C), signals (T, K, C) and what is biorthogonal to the features, M^-T (T, K, K)."""
    duals = torch.linalg.inv_ex(m)[0].mT
    signals = (duals * factors.singular_values) @ factors.left.T
    return torch.softmax(m @ factors.logit_map.T + factors.offset, -1), signals, duals


def _ceiling(factors: Factors) -> Tensor:
    """(K,): one more wall, on whose far side an image is too bright to be one."""
    heights, ones = factors.heights, factors.ones
    assert heights is not None and ones is not None, "walls are told by bias and floor"
    return BRIGHTEST * _typical_height(factors, heights) * ones - heights.mean(0)


def _typical_height(factors: Factors, walls: Tensor) -> float:
    """How far above its floor a feature typically is: that of the shortest m that ends in 1."""
    assert factors.ones is not None, "heights are told by the bias"
    return float((walls @ factors.ones).abs().mean() / factors.ones.square().sum())
