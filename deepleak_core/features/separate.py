"""The last layer's gradient taken apart into one feature vector per image.

With logits `W f_k + b`, probabilities `p_k` and labels `y_k`, a batch of K images shares of its last layer

    G = sum_k a_k f_k^T  (C x D),   g = sum_k a_k  (C),   where  a_k = p_k - e_{y_k}  (times 1 / K).

Search-based attacks see only this sum, which is why images of one class fuse. But G has rank K, so its rows
span the features: with the thin SVD G = U S V^T, f_k = V m_k, and the K x K unknown M solves

    A(M)^T M = U S,   A(M)^T 1 = g,   where row k of A is  softmax(W V m_k + b) - e_{y_k}.

These are C (K + 1) equations for K^2 unknowns, solved by Levenberg-Marquardt in float64. The residual is at
rounding level for the right label counts and far above it for wrong ones, so a solution is its own proof. For that
each equation is weighed by its own rounding: rows of classes that hardly occur are small, and as exact as others. They
tell the label of an image that the network is sure of, and that is lost in the rounding of large rows.

Relatives: R-GAP (Zhu and Blaschko 2021) and iLRG (Ma et al. 2023) read the same layer for one image or one mean
image per class; Cocktail Party Attack (Kariyappa et al. 2022) separates features by independence; SPEAR
(Dimitrov et al. 2024) uses the same low-rank factorisation, resolved by ReLU sparsity instead of the softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deepleak_core.errors import CannotSeparate, NotSeparated
from deepleak_core.features.ica import independent_images
from deepleak_core.features.joint import read_labels, solve_for_many, solve_together
from deepleak_core.features.last_layer import EPSILON, LastLayer, row_lengths, summed_gradient
from deepleak_core.features.one_by_one import (
    Factors,
    can_be_found_one_by_one,
    conjugate_gradients,
    find_images,
    starts_for,
    tangents_of,
    without_rounding,
)
from deepleak_core.features.simplex import largest_simplices

LOGITS_OFF = 1.5  # units of float32 by which logits are off, in proportion to those of the image, as measured
DENSE_UNKNOWNS = 1600  # up to here the normal equations are solved directly, above by conjugate gradients
FACTORABLE_UNKNOWNS = 5000  # up to here they can be, in a second: where conjugate gradients creep
CREEPING = 0.5  # of the squared residual: steps by conjugate gradients that gain less are too many
CONJUGATE, ACCURATE = 250, 1e-10  # of them for one step, at most; and the share of its energy that they may leave
SETTLED = 1e-7  # of the squared residual: a step that gains less is the last one
SETTLED_SOON = 2e-3  # likewise where steps are slow, with more unknowns: a proof does not need the last digits
SOLVED = 3.0  # a misfit below: nothing is left but rounding noise, no need to try again
PROVEN = 20.0  # a misfit above: wrong counts, or not a plain gradient; they lie at 100 and far up if images are clear
FEW = 32  # images up to which a guess from class means is quick to be solved from
TOGETHER = 12  # images up to which the equations of all are also solved side by side from many starts
CLEAR = 30.0  # the K-th singular value over the next, noise, from which on every image shows; wrong labels fit below 8
LARGEST_RESIDUAL = 1e-8  # of the squared norm: features of absurd size excuse any misfit as rounding
BELOW = 0.05  # of a feature vector's length that may lie below the floor, beside five times its estimated error


@dataclass(frozen=True, kw_only=True)
class Disaggregation:
    """One feature vector per image, and how far it can be trusted.

    `features` (K, D), `labels` (K,) and `signals` (K, C), the loss gradient of each image's logits, are in one
    arbitrary order. `misfit` is the squared residual in units of the rounding noise expected of a float32 gradient,
    over the equations that are more than the unknowns: about 1 when solved, thousands and more otherwise; `residual`
    is the squared distance to the shared gradient over its squared norm. `errors` (K,) estimates each feature
    vector's relative error.
    """

    features: Tensor
    labels: Tensor
    signals: Tensor
    misfit: float
    residual: float
    errors: Tensor
    singular_values: Tensor

    @property
    def clear(self) -> bool:
        """Whether the faintest image stands out of rounding noise: only then do the labels of all show."""
        values, images = self.singular_values, len(self.labels)
        return images == len(values) or bool(values[images - 1] > CLEAR * values[images])


def check_room(layer: LastLayer, images: int) -> None:
    """Raises `CannotSeparate` where a last layer has too few classes or features for so many images."""
    classes, dimension = layer.weight.shape
    # Signals sum to zero over the classes; without a bias, one more equation is missing.
    room = min(classes - (1 if layer.bias_gradient is not None else 2), dimension - 1)
    if images > room:
        raise CannotSeparate(
            f"{images} images share a last layer of {classes} classes and {dimension} features; at most "
            f"{room} can be told apart: make the batch smaller."
        )


def disaggregate(
    layer: LastLayer,
    counts: Tensor,
    *,
    start: Tensor | None = None,
    seed: int = 0,
    tries: int = 24,
    stop: Callable[[], bool] = lambda: False,
) -> Disaggregation:
    """The features of every image, from the last layer's mean gradient and label counts (C,).

    `start` (K, D), features in the order of ascending labels, is tried first. Raises `CannotSeparate` where
    there are too many images for the layer, `NotSeparated` where the counts are wrong or the gradient is not that
    of a single step without noise.
    """
    problem = _Problem.of(layer, counts)
    generator = torch.Generator().manual_seed(seed)
    best, misfit, tried = None, float("inf"), 0
    for m in _beginnings(problem, layer, start, generator, tries, stop):
        tried += 1
        weights = problem.trust(m)
        m = problem.solve(m, weights, stop)
        found = problem.misfit(m, weights)
        if found < misfit and float(problem.residuals(m, problem.plain).square().sum()) < LARGEST_RESIDUAL:
            best, misfit = m, found
        if misfit < SOLVED or stop():
            break
    if best is None or misfit > PROVEN:
        raise NotSeparated(
            f"No {problem.images} feature vectors with these label counts explain the last layer's gradient "
            f"(misfit {misfit:.1e} times rounding noise after {tried} tries, expected about 1): "
            "a label count is wrong, or the update is not the plain gradient of one batch.",
            misfit,
        )
    answer = problem.answer(best, misfit)
    if layer.floor is not None:
        below = (answer.features - layer.floor).clamp_max(0).norm(dim=1) / answer.features.norm(dim=1)
        if bool((below > BELOW + 5 * answer.errors).any()):
            raise NotSeparated(
                f"The {problem.images} feature vectors that explain the last layer's gradient with these label counts "
                f"are none of this network's: {float(below.max()):.0%} of one lies below {layer.floor:g}, as no "
                "activation can; a label count is wrong.",
                misfit,
            )
    return answer


def _beginnings(
    problem: _Problem,
    layer: LastLayer,
    start: Tensor | None,
    generator: torch.Generator,
    tries: int,
    stop: Callable[[], bool],
) -> Iterator[Tensor]:
    """Points M (K, K) near a solution, the most promising first, of which the noise's weights choose."""
    if start is not None:
        yield start @ problem.basis
    many = problem.images > FEW
    for attempt in range(tries):
        if tries > 1 and attempt == (0 if many else 1):  # who asks for a single try has looked there himself
            yield from _without_labels(problem, layer, stop)
        # Even weights find the way, plain ones the neighbourhood.
        near = problem.solve(problem.start(generator, attempt), problem.even, stop)
        yield problem.solve(near, problem.plain, stop)
        if attempt == 0 and can_be_found_one_by_one(layer, problem.images):
            present = torch.unique_consecutive(problem.labels)
            features, labels = find_images(layer, problem.images, present.tolist(), stop=stop)
            if torch.equal(labels.sort().values, problem.labels):
                yield features[labels.argsort()] @ problem.basis
        if attempt % 4 == 1 and problem.images <= TOGETHER:
            factors = Factors.of(layer, summed_gradient(layer, problem.images), problem.images)
            same = problem.labels.expand(32, -1)
            starts = starts_for(factors, same, generator)
            ends, costs = solve_together(factors, starts, same, walls=factors.walls, iterations=80, enough=1e-13)
            yield ends[costs.argmin()] @ factors.basis.T @ problem.basis


def _without_labels(problem: _Problem, layer: LastLayer, stop: Callable[[], bool]) -> Iterator[Tensor]:
    """Points M (K, K) that are found without labels, where the labels that can be read off them are the right ones."""
    factors = Factors.of(layer, summed_gradient(layer, problem.images), problem.images)

    def found() -> Iterator[Tensor]:
        if (independent := independent_images(factors, stop=stop)) is not None:
            yield solve_for_many(factors, independent, stop=stop)[0]
        for corners, _ in largest_simplices(factors, stop=stop):
            yield corners

    for m in found():
        labels = read_labels(factors, m[None])[0].argmax(1)
        if torch.equal(labels.sort().values, problem.labels):
            yield m[labels.argsort()] @ factors.basis.T @ problem.basis


# --------------------------------------------------------------------------------------- the system of equations


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """The equations in the coordinates of the row space; K images, C classes."""

    images: int
    logit_map: Tensor  # W V (C, K): features in row space to logits
    offset: Tensor  # b (C,)
    target: Tensor  # U S (C, K), and g (C,) as a last column where there is a bias
    labels: Tensor  # (K,)
    onehot: Tensor  # (K, C)
    basis: Tensor  # V (D, K)
    scales: Tensor  # S (K,)
    noise: Tensor  # what rounding adds to each entry of the target, apart from that of the signals, like it
    singular_values: Tensor  # of the gradient with rows in units of their own length; behind K, they are noise

    @classmethod
    def of(cls, layer: LastLayer, counts: Tensor) -> _Problem:
        classes, dimension = layer.weight.shape
        images = int(counts.sum())
        check_room(layer, images)
        gradient = layer.weight_gradient.double() * images
        if not torch.isfinite(gradient).all() or not gradient.any():
            raise CannotSeparate("The last layer's gradient is zero or not finite: it holds no features at all.")
        lengths = row_lengths(gradient)
        u, s, vt, singular_values = without_rounding(gradient, images)
        basis = vt.T
        weight = layer.weight.double()
        labels = torch.repeat_interleave(torch.arange(classes, device=weight.device), counts.to(weight.device))
        # Rounding is noise of one size in every entry of a row; the singular values behind the last image show it.
        spread = float(singular_values[images:].norm()) / ((classes - images) * (dimension - images)) ** 0.5
        floor = EPSILON * float((gradient / lengths).abs().max()) / 16
        target = u * s
        noise = max(spread, floor) * lengths.expand(-1, images)
        if layer.bias_gradient is not None:
            sums = layer.bias_gradient.double()[:, None] * images
            target, noise = torch.cat([target, sums], 1), torch.cat([noise, EPSILON * sums.abs()], 1)
        return cls(
            images=images,
            logit_map=weight @ basis,
            offset=torch.zeros(classes).to(weight) if layer.bias is None else layer.bias.double(),
            target=target,
            labels=labels,
            onehot=one_hot(labels, classes).double(),
            basis=basis,
            scales=s,
            noise=noise,
            singular_values=singular_values,
        )

    @property
    def dense(self) -> bool:
        """Whether there are so few unknowns that J^T J is quickly made and factored."""
        return self.images**2 <= DENSE_UNKNOWNS

    @property
    def even(self) -> Tensor:
        """Weights, like the target, under which every singular direction counts alike."""
        return self._weights(1 / self.scales.clamp_min(1e-300))

    @property
    def plain(self) -> Tensor:
        """Weights, like the target, under which every entry of the gradient counts alike."""
        return self._weights(1 / self.scales[:1].expand(self.images))

    def _weights(self, columns: Tensor) -> Tensor:
        if self.target.shape[1] > self.images:
            columns = torch.cat([columns, columns.new_full((1,), self.images**-0.5)])
        return columns.expand_as(self.target)

    def trust(self, m: Tensor) -> Tensor:
        """Weights, like the target, by the rounding noise in each entry, given features near the true ones.

        Two sources: signals were rounded before they met the features, and every entry of the gradient was. Signals
        are off as logits were rounded, which moves predictions in proportion; and then by a unit of float32 in
        proportion to each, and half a unit of one where a label was taken off.
        """
        logits = m @ self.logit_map.T + self.offset
        p = torch.softmax(logits, 1)
        off = (LOGITS_OFF * EPSILON) ** 2 * logits.square().mean(1, keepdim=True)
        moved = off * p.square() * ((1 - p).square() + p.square().sum(1, keepdim=True) - p.square())
        rounded = EPSILON**2 * ((p - self.onehot).square() + self.onehot / 4)
        weights: Tensor = ((moved + rounded).T @ self.closed(m).square() + self.noise.square()).rsqrt()
        return weights

    def closed(self, m: Tensor) -> Tensor:
        """M with the feature that is one everywhere as a last column, where there is a bias: its gradient's."""
        return m if self.target.shape[1] == self.images else torch.cat([m, torch.ones_like(m[:, :1])], 1)

    def start(self, generator: torch.Generator, attempt: int) -> Tensor:
        """A first guess M (K, K): every image its class mean, duplicates spread around it at random.

        To first order in the spread d_k, what the means leave unexplained is `J W V sum_k d_k d_k^T`, J the
        softmax's Jacobian: it fixes the spread's covariance and leaves its orientation to chance.
        """
        per_class = self.onehot.sum(0)
        target = self.target[:, : self.images]
        means = torch.stack([-target[y] / per_class[y] for y in self.labels])
        if attempt % 2:  # by chance alone: slower, but it reaches what the first-order guess cannot
            scale = 0.5 * means.abs().mean()
            return means + scale * torch.randn(means.shape, generator=generator, dtype=torch.float64).to(means)
        for _ in range(3):  # the class rows also hold every other image, weighted by its probability
            p = torch.softmax(means @ self.logit_map.T + self.offset, 1)
            others = p.T @ means
            means = torch.stack([(others[y] - target[y]) / per_class[y] for y in self.labels])
        duplicates = per_class[self.labels] - 1
        if not duplicates.any():
            return means
        p = torch.softmax(means @ self.logit_map.T + self.offset, 1)
        share = duplicates / per_class[self.labels]
        share = share / share.sum()
        slope = share @ tangents_of(p, self.logit_map).flatten(1)
        unexplained = target - (p - self.onehot).T @ means
        covariance = torch.linalg.lstsq(slope.reshape(target.shape), unexplained).solution
        values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
        rank = self.images - int((per_class > 0).sum())
        values, vectors = values[-rank:].clamp_min(1e-3 * float(values.abs().max())), vectors[:, -rank:]
        noise = torch.randn(self.images, rank, generator=generator, dtype=torch.float64).to(means)
        same_class = self.onehot @ self.onehot.T / per_class[self.labels]
        scatter, _ = torch.linalg.qr(noise - same_class @ noise)
        spread: Tensor = scatter @ (values.sqrt()[:, None] * vectors.T)
        return means + spread

    def misfit(self, m: Tensor, weights: Tensor) -> float:
        """The squared residuals under these weights, over the number of equations that are not needed to fit M."""
        classes, columns = self.target.shape  # signals sum to zero: one class says nothing that the others do not
        return float(self.evaluate(m, weights)[2].square().sum()) / ((classes - 1) * columns - self.images**2)

    def residuals(self, m: Tensor, weights: Tensor) -> Tensor:
        """The weighted residuals of the features' equations at M, (C, K)."""
        return self.evaluate(m, weights)[2][:, : self.images]

    def evaluate(self, m: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (K, C), signals (K, C) and weighted residuals, like the target, at M."""
        p = torch.softmax(m @ self.logit_map.T + self.offset, 1)
        signals = p - self.onehot
        return p, signals, (signals.T @ self.closed(m) - self.target) * weights

    def solve(self, m: Tensor, weights: Tensor, stop: Callable[[], bool], iterations: int = 200) -> Tensor:
        """Levenberg-Marquardt from M under column weights, to where it is when `stop` says yes.

        Damped by how much of the gain that was foreseen comes true (Nielsen 1999).
        """
        damping, growth, directly = 1e-3, 2.0, self.dense
        p, signals, residual = self.evaluate(m, weights)
        cost = float(residual.square().sum())
        for _ in range(iterations):
            if stop():
                break
            tangents = tangents_of(p, self.logit_map)
            gradient = self._transposed(residual, m, weights, signals, tangents)
            prepare = self._steps if directly else self._steps_by_conjugate_gradients
            take, moved = prepare(m, weights, signals, tangents, gradient), False
            while not moved and damping < 1e12 and not stop():
                step = take(damping)
                p_new, signals_new, residual_new = self.evaluate(m + step, weights)
                cost_new = float(residual_new.square().sum())
                moved = cost_new < cost
                if moved:
                    foreseen = float((residual + self._apply(step, m, weights, signals, tangents)).square().sum())
                    share = min(1.0, max(0.0, (cost - cost_new) / max(cost - foreseen, 1e-300)))
                    damping, growth = max(damping * max(1 / 5, 1 - (2 * share - 1) ** 3), 1e-15), 2.0
                else:
                    damping, growth = damping * growth, 2 * growth
            if not moved:
                break
            gain = (cost - cost_new) / cost
            m, p, signals, residual, cost = m + step, p_new, signals_new, residual_new, cost_new
            if gain < (SETTLED if self.dense else SETTLED_SOON):
                break
            directly = directly or (gain < CREEPING and self.images**2 <= FACTORABLE_UNKNOWNS)
        return m

    def _apply(self, step: Tensor, m: Tensor, weights: Tensor, signals: Tensor, tangents: Tensor) -> Tensor:
        """Jacobian times a step (K, K): the change of the residuals."""
        turned = torch.einsum("kci,ki->kc", tangents, step)
        change = turned.T @ self.closed(m)
        change[:, : self.images] += signals.T @ step
        return change * weights

    def _transposed(self, residual: Tensor, m: Tensor, weights: Tensor, signals: Tensor, tangents: Tensor) -> Tensor:
        """Transposed Jacobian times residuals, (K, K)."""
        weighted = residual * weights
        pull = self.closed(m) @ weighted.T  # (K, C): how each signal should move
        return torch.einsum("kci,kc->ki", tangents, pull) + signals @ weighted[:, : self.images]

    def _steps(
        self, m: Tensor, weights: Tensor, signals: Tensor, tangents: Tensor, gradient: Tensor
    ) -> Callable[[float], Tensor]:
        """From damping to the damped Gauss-Newton step (K, K)."""
        hessian = self._normal_matrix(m, weights, signals, tangents)
        diagonal = hessian.diagonal().clone()
        damped = diagonal.clamp_min(1e-12 * float(diagonal.max()))

        def step(damping: float) -> Tensor:
            hessian.diagonal().copy_(diagonal + damping * damped)
            factor, failed = torch.linalg.cholesky_ex(hessian)
            if int(failed):
                return torch.zeros_like(m)
            return -torch.cholesky_solve(gradient.reshape(-1, 1), factor).reshape(m.shape)

        return step

    def _normal_matrix(self, m: Tensor, weights: Tensor, signals: Tensor, tangents: Tensor) -> Tensor:
        """J^T J (K^2, K^2), from its product structure: C K^4 operations instead of C K^5."""
        k, w2, ends = self.images, weights.square(), self.closed(m)
        hessian = torch.empty(k, k, k, k).to(m)  # unknown (k, i) against (l, j)
        turned = tangents.mT.contiguous()
        for image in range(k):  # one at a time: all of them would be C K^3 numbers
            overlap = ends @ (w2 * ends[image]).T  # (K, C): with every other image
            hessian[image] = ((turned[image] * overlap[:, None]) @ tangents).transpose(0, 1)
        weighed = signals.T[:, :, None] * w2[:, None, :k]  # (C, K, K): each signal in each column
        cross = tangents.mT.reshape(k * k, -1) @ weighed.flatten(1)
        mixed = cross.view(k, k, k, k) * m[:, None, None, :]
        hessian += mixed + mixed.permute(2, 3, 0, 1)
        same = weighed.permute(1, 2, 0) @ signals.T  # (k, i, l)
        hessian.diagonal(dim1=1, dim2=3).add_(same.permute(0, 2, 1))
        return hessian.reshape(k * k, k * k)

    def _blocks(self, m: Tensor, weights: Tensor, signals: Tensor, tangents: Tensor) -> Tensor:
        """Each image's own block of J^T J, (K, K, K)."""
        w2 = weights.square()
        own = self.closed(m).square() @ w2.T  # (K, C)
        blocks = (tangents * own[..., None]).mT @ tangents
        w2 = w2[:, : self.images]
        mixed = tangents.mT @ (signals[..., None] * w2) * m[:, None]
        blocks += mixed + mixed.mT + torch.diag_embed(signals.square() @ w2)
        return blocks

    def _steps_by_conjugate_gradients(
        self, m: Tensor, weights: Tensor, signals: Tensor, tangents: Tensor, gradient: Tensor
    ) -> Callable[[float], Tensor]:
        """The same without the matrix, preconditioned by each image's own block."""
        blocks = self._blocks(m, weights, signals, tangents)
        diagonal = blocks.diagonal(dim1=1, dim2=2)
        diagonal = diagonal.clamp_min(1e-12 * float(diagonal.max()))

        def curved(step: Tensor) -> Tensor:
            pushed = self._apply(step, m, weights, signals, tangents)
            return self._transposed(pushed, m, weights, signals, tangents)

        def step(damping: float) -> Tensor:
            return conjugate_gradients(curved, gradient, blocks, damping * diagonal, most=CONJUGATE, accurate=ACCURATE)

        return step

    def answer(self, m: Tensor, misfit: float) -> Disaggregation:
        """The solution in feature space, with an error estimate from the curvature and the noise at it."""
        weights = self.trust(m)
        p, signals, _ = self.evaluate(m, weights)
        tangents = tangents_of(p, self.logit_map)
        if self.dense:
            hessian = self._normal_matrix(m, weights, signals, tangents)
            variances = torch.linalg.pinv(hessian, hermitian=True).diagonal().reshape(m.shape)
        else:  # each image's own block: what the others take from it is left out
            variances = torch.linalg.pinv(self._blocks(m, weights, signals, tangents), hermitian=True)
            variances = variances.diagonal(dim1=1, dim2=2)
        features = m @ self.basis.T
        scale = max(1.0, misfit) ** 0.5
        return Disaggregation(
            features=features,
            labels=self.labels,
            signals=signals,
            misfit=misfit,
            residual=float(self.residuals(m, self.plain).square().sum()),
            errors=scale * variances.sum(1).clamp_min(0).sqrt() / features.norm(dim=1),
            singular_values=self.singular_values,
        )
