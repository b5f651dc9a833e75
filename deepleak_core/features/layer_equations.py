"""The last layer's gradient as equations in the features of all images, given their labels.

In the notation of `factors`, with M the matrix of the m_k and signals a_k = softmax(W V m_k + b) - e_{y_k}, features
reproduce the gradient where

    sum_k a_k m_k^T = U S,     sum_k a_k = g     (the second with a bias only):

C (K + 1) equations for the K^2 unknowns in M. Each is weighted by the rounding error expected in it, so that small rows
of the gradient count with their own precision; they reveal the label of an image that the network is sure of, which is
lost in the rounding of large rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deepleak_core.features.factors import Factors, softmax_slopes
from deepleak_core.features.last_layer import EPSILON, rows_times
from deepleak_core.features.least_squares import Linearised, Quadratics

LOGIT_ROUNDING = 1.5  # units of float32, relative to an image's logits, by which clients round them; measured


@dataclass(frozen=True, kw_only=True)
class LayerEquations:
    """The equations at the head of this module for K images, C classes, in ascending order of labels.

    Coordinates are those of an orthonormal `basis` V (D, K) of the features alone, without the bias. `target` is U S
    (C, K), with g (C,) as a last column where there is a bias, and `noise`, of its shape, the rounding error of each
    entry. `labels` is (K,), `onehot` (K, C), `logit_map` (C, K), `offset` (C,), and `scales` (K,) are the singular
    values of G.
    """

    labels: Tensor
    onehot: Tensor
    basis: Tensor
    scales: Tensor
    logit_map: Tensor
    offset: Tensor
    target: Tensor
    noise: Tensor

    @classmethod
    def of(cls, factors: Factors, counts: Tensor) -> LayerEquations:
        """The equations for a batch of label `counts` (C,) that sum to the number of images of `factors`."""
        layer, images, device = factors.layer, factors.images, factors.left.device
        labels = torch.repeat_interleave(torch.arange(len(counts), device=device), counts.to(device))
        # The basis of [G, g] without its last row is not orthonormal: factor once more, in K dimensions.
        basis, r = torch.linalg.qr(factors.basis)
        left, scales, right = torch.linalg.svd(factors.singular_values[:, None] * r.T)
        basis = basis @ right.T
        target = factors.left @ left * scales
        noise = factors.relative_noise * factors.row_lengths.expand(-1, images)
        if layer.bias_gradient is not None:
            sums = layer.bias_gradient.double()[:, None] * images
            target, noise = torch.cat([target, sums], 1), torch.cat([noise, EPSILON * sums.abs()], 1)
        return cls(
            labels=labels,
            onehot=one_hot(labels, len(counts)).double(),
            basis=basis,
            scales=scales,
            logit_map=rows_times(layer.weight, basis),
            offset=factors.offset,
            target=target,
            noise=noise,
        )

    @property
    def images(self) -> int:
        """Number of images K."""
        return len(self.labels)

    # ---------------------------------------------------------------------------------------------- weights

    @property
    def whitening(self) -> Tensor:
        """Weights, shaped like the target, under which every singular direction counts alike."""
        return self._column_weights(1 / self.scales.clamp_min(1e-300))

    @property
    def uniform(self) -> Tensor:
        """Weights, shaped like the target, under which every entry of the gradient counts alike."""
        return self._column_weights(1 / self.scales[:1].expand(self.images))

    def _column_weights(self, columns: Tensor) -> Tensor:
        if self.target.shape[1] > self.images:
            columns = torch.cat([columns, columns.new_full((1,), self.images**-0.5)])
        return columns.expand_as(self.target)

    def precision(self, m: Tensor) -> Tensor:
        """Inverse standard deviation of the rounding error in each entry of the target, given features near the truth.

        Signals were rounded before they were multiplied with features, and every entry of the gradient was. Signals
        are off as logits were rounded, which moves predictions in proportion, and then by a unit of float32 relative
        to each, and half a unit of one where a label was subtracted.
        """
        logits = m @ self.logit_map.T + self.offset
        p = torch.softmax(logits, 1)
        off = (LOGIT_ROUNDING * EPSILON) ** 2 * logits.square().mean(1, keepdim=True)
        moved = off * p.square() * ((1 - p).square() + p.square().sum(1, keepdim=True) - p.square())
        rounded = EPSILON**2 * ((p - self.onehot).square() + self.onehot / 4)
        weights: Tensor = ((moved + rounded).T @ self._with_ones(m).square() + self.noise.square()).rsqrt()
        return weights

    # -------------------------------------------------------------------------------------------- residuals

    def residuals(self, m: Tensor, weights: Tensor) -> Tensor:
        """Weighted residuals at coordinates m (K, K), shaped like the target."""
        return self._evaluate(m, weights)[2]

    def misfit(self, m: Tensor, weights: Tensor) -> float:
        """Squared residual over the number of equations in excess of the unknowns; about 1 at rounding level."""
        classes, columns = self.target.shape  # signals sum to zero: the equations of one class are redundant
        excess = (classes - 1) * columns - self.images**2
        return float(self.residuals(m, weights).square().sum()) / excess

    def relative_residual(self, m: Tensor) -> float:
        """Squared residual of the features' equations, weighted uniformly: relative to the largest direction."""
        return float(self.residuals(m, self.uniform)[:, : self.images].square().sum())

    def signals(self, m: Tensor) -> Tensor:
        """Signals (K, C) at coordinates m (K, K)."""
        return torch.softmax(m @ self.logit_map.T + self.offset, 1) - self.onehot

    def _evaluate(self, m: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (K, C), signals (K, C) and weighted residuals, shaped like the target."""
        p = torch.softmax(m @ self.logit_map.T + self.offset, 1)
        signals = p - self.onehot
        return p, signals, (signals.T @ self._with_ones(m) - self.target) * weights

    def _with_ones(self, m: Tensor) -> Tensor:
        """M with a column of ones where there is a bias."""
        return m if self.target.shape[1] == self.images else torch.cat([m, torch.ones_like(m[:, :1])], 1)

    # ------------------------------------------------------------------------------------------ derivatives

    def quadratics(self, weights: Tensor) -> Quadratics:
        """The weighted equations for `levenberg_marquardt`: points (1, K * K)."""

        def of(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            m = points.view(self.images, self.images)
            here = _Derivatives.at(self, m, weights)
            return here.residual.square().sum()[None], here.gradient().flatten()[None], here.normal_matrix()[None]

        return of

    def linearised(self, m: Tensor, weights: Tensor) -> Linearised:
        """The weighted equations for `matrix_free_levenberg_marquardt`, at coordinates m (K, K)."""
        here = _Derivatives.at(self, m, weights)
        return Linearised(
            cost=float(here.residual.square().sum()),
            gradient=here.gradient(),
            product=here.product,
            blocks=here.blocks(),
            cost_at=lambda there: float(self.residuals(there, weights).square().sum()),
        )

    def variances(self, m: Tensor, weights: Tensor, *, dense: bool) -> Tensor:
        """Variance of each coordinate (K, K) under `weights` that are inverse standard deviations of the equations.

        Without `dense`, from each image's own block of the normal matrix, which neglects what images share.
        """
        here = _Derivatives.at(self, m, weights)
        if dense:
            every: Tensor = torch.linalg.pinv(here.normal_matrix(), hermitian=True)
            return every.diagonal().reshape(m.shape)
        own: Tensor = torch.linalg.pinv(here.blocks(), hermitian=True)
        return own.diagonal(dim1=1, dim2=2)


@dataclass(frozen=True)
class _Derivatives:
    """First derivatives of the weighted residuals at one point M (K, K)."""

    m: Tensor
    with_ones: Tensor
    weights: Tensor
    signals: Tensor
    residual: Tensor
    slopes: Tensor  # of predictions (K, C, K)

    @classmethod
    def at(cls, equations: LayerEquations, m: Tensor, weights: Tensor) -> _Derivatives:
        p, signals, residual = equations._evaluate(m, weights)
        slopes = softmax_slopes(p, equations.logit_map)
        return cls(m, equations._with_ones(m), weights, signals, residual, slopes)

    def gradient(self) -> Tensor:
        """J^T r (K, K)."""
        return self._transposed(self.residual)

    def product(self, step: Tensor) -> Tensor:
        """J^T J times a step (K, K)."""
        change = torch.einsum("kci,ki->kc", self.slopes, step).T @ self.with_ones
        change[:, : len(self.m)] += self.signals.T @ step
        return self._transposed(change * self.weights)

    def _transposed(self, residual: Tensor) -> Tensor:
        weighted = residual * self.weights
        pull = self.with_ones @ weighted.T  # (K, C): derivative in each signal
        return torch.einsum("kci,kc->ki", self.slopes, pull) + self.signals @ weighted[:, : len(self.m)]

    def normal_matrix(self) -> Tensor:
        """J^T J (K^2, K^2) from its product structure: C K^4 operations instead of C K^5."""
        k, w2, slopes = len(self.m), self.weights.square(), self.slopes
        normal = torch.empty(k, k, k, k).to(self.m)  # unknown (k, i) against (l, j)
        transposed = slopes.mT.contiguous()
        for image in range(k):  # one at a time: for all of them, the product would have C K^3 numbers
            overlap = self.with_ones @ (w2 * self.with_ones[image]).T  # (K, C): with every other image
            normal[image] = ((transposed[image] * overlap[:, None]) @ slopes).transpose(0, 1)
        weighed = self.signals.T[:, :, None] * w2[:, None, :k]  # (C, K, K): each signal in each column
        cross = slopes.mT.reshape(k * k, -1) @ weighed.flatten(1)
        mixed = cross.view(k, k, k, k) * self.m[:, None, None, :]
        normal += mixed + mixed.permute(2, 3, 0, 1)
        same = weighed.permute(1, 2, 0) @ self.signals.T  # (k, i, l)
        normal.diagonal(dim1=1, dim2=3).add_(same.permute(0, 2, 1))
        return normal.reshape(k * k, k * k)

    def blocks(self) -> Tensor:
        """The diagonal block (K, K, K) of J^T J for each image."""
        w2 = self.weights.square()
        own = self.with_ones.square() @ w2.T  # (K, C)
        blocks = (self.slopes * own[..., None]).mT @ self.slopes
        w2 = w2[:, : len(self.m)]
        mixed = self.slopes.mT @ (self.signals[..., None] * w2) * self.m[:, None]
        blocks += mixed + mixed.mT + torch.diag_embed(self.signals.square() @ w2)
        return blocks


def first_guess(equations: LayerEquations, generator: torch.Generator, *, informed: bool = True) -> Tensor:
    """A starting point M (K, K): every image at the mean of its class, images of one class spread around it.

    To first order in the spread d_k, what the class means leave unexplained is J W V sum_k d_k d_k^T with J the
    softmax's Jacobian. An `informed` guess uses it for the covariance of the spread, whose orientation stays random;
    otherwise the spread is random altogether, which is slower but reaches solutions that the informed guess misses.
    """
    images, onehot, logit_map = equations.images, equations.onehot, equations.logit_map
    per_class, labels = onehot.sum(0), equations.labels
    target = equations.target[:, :images]
    means = torch.stack([-target[y] / per_class[y] for y in labels])
    if not informed:
        scale = 0.5 * means.abs().mean()
        return means + scale * torch.randn(means.shape, generator=generator, dtype=torch.float64).to(means)

    def predicted() -> Tensor:
        return torch.softmax(means @ logit_map.T + equations.offset, 1)

    for _ in range(3):  # the rows of the classes also hold every other image, weighted by its probability
        others = predicted().T @ means
        means = torch.stack([(others[y] - target[y]) / per_class[y] for y in labels])
    duplicates = per_class[labels] - 1
    if not duplicates.any():
        return means
    p = predicted()
    share = duplicates / per_class[labels]
    share = share / share.sum()
    slope = share @ softmax_slopes(p, logit_map).flatten(1)
    unexplained = target - (p - onehot).T @ means
    covariance = torch.linalg.lstsq(slope.reshape(target.shape), unexplained).solution
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    rank = images - int((per_class > 0).sum())
    values, vectors = values[-rank:].clamp_min(1e-3 * float(values.abs().max())), vectors[:, -rank:]
    noise = torch.randn(images, rank, generator=generator, dtype=torch.float64).to(means)
    same_class = onehot @ onehot.T / per_class[labels]
    scatter, _ = torch.linalg.qr(noise - same_class @ noise)
    spread: Tensor = scatter @ (values.sqrt()[:, None] * vectors.T)
    return means + spread
