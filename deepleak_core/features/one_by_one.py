"""Images found in the last layer's gradient without knowing a single label.

Feature vectors f_k and signals a_k = softmax(W f_k + b) - e_{y_k} of K images sum up to the layer's gradient

    sum_k a_k [f_k, 1]^T = U S V^T,   so   [f_k, 1] = V m_k,   a_k = U c_k,   m_k . S^-1 c_l = [k = l].

The last equations make features and signals biorthogonal. They ask every image for itself to satisfy

    (I - U U^T) a_k = 0,    (V m_k) ends in 1,    m_k . S^-1 c_k = 1,     where a_k follows from m_k and y_k:

C - K + 1 equations for the K unknowns in m_k. So while 2 K <= C, one can ask for each class which images of it
there are: `find_images` does, takes the images found off the gradient, and goes on with a simpler one. Nothing
has to be known of the labels, and nothing of the other images. For more images than that, `simplex`, `independence`
and `together` look for all images at once.

Relatives: see `disaggregation`, which judges and polishes what is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deepleak_core.features.last_layer import EPSILON, LastLayer, row_lengths, summed_gradient

NOISE = 6.0  # residual of an image in units of rounding noise, root mean square, up to which it counts as found
ROOM = 400_000  # numbers in one Jacobian of all problems that are solved side by side
WALLS = 300  # features up to which a search can mind the floor of each
ROUNDS = 10  # times a class is searched anew before an image counts as hidden

Equations = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # points and labels to residuals and Jacobians
# Points (T, n) and labels to squared residuals (T,), half their gradients (T, n) and half their Hessians (T, n, n).
Quadratics = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The gradient of K images (their sum, not their mean), factored: see the head of this module."""

    left: Tensor  # U (C, K)
    singular_values: Tensor  # (K,)
    logit_map: Tensor  # W V (C, K): coordinates m to logits
    offset: Tensor  # b (C,)
    ones: Tensor | None  # the row of V (K,) that makes a 1 of every m; None without a bias
    basis: Tensor  # V without that row, (D, K)
    heights: Tensor | None  # (D, K): coordinates m to features above their floor; None without a bias or a floor
    noise: float  # root mean square of what rounding adds to an entry of the gradient
    smooth: bool  # whether features only come near their floor (`LastLayer`)

    @classmethod
    def of(cls, layer: LastLayer, gradient: Tensor, images: int, *, taken_off: bool = False) -> Factors:
        """Factor the summed `gradient` (C, D), or (C, D + 1) with the bias's as its last column.

        `taken_off` says that other images were in it and have been taken off, as well as that can be done.
        """
        if taken_off:  # what other images left behind is no even noise: it has a direction
            u, values, vt = torch.linalg.svd(gradient, full_matrices=False)
            spread = float(values[images]) / len(gradient) ** 0.5 if len(values) > images else 0.0
            u, s, vt = u[:, :images], values[:images], vt[:images]
        else:
            u, s, vt, _ = without_rounding(gradient, images)
            room = max(1, (len(gradient) - images) * (gradient.shape[1] - images))
            spread = float((gradient - (u * s) @ vt).norm()) / room**0.5
        least = EPSILON * float(gradient.abs().max()) / 16
        dimension, basis = layer.weight.shape[1], vt.T
        rows, ones = basis[:dimension], basis[dimension] if len(basis) > dimension else None
        return cls(
            left=u,
            singular_values=s,
            logit_map=layer.weight.double() @ rows,
            offset=torch.zeros(len(u)).to(u) if layer.bias is None else layer.bias.double(),
            ones=ones,
            basis=rows,
            heights=None if ones is None or layer.floor is None else rows - layer.floor * ones,
            noise=max(spread, least),
            smooth=layer.smooth,
        )

    @property
    def images(self) -> int:
        return len(self.singular_values)

    @property
    def walls(self) -> Tensor | None:
        """All of `heights`, where they are few; else `simplex` tells which of them matter."""
        return self.heights if self.heights is not None and len(self.heights) <= WALLS else None

    def coordinates(self, features: Tensor) -> Tensor:
        """m (..., K) of features (..., D), with the 1 of the bias after them where there is one."""
        m = features @ self.basis
        return m if self.ones is None else m + self.ones

    def embeddings(self) -> Tensor:
        """(C, K): what each class's row of the gradient says an image of that class looks like.

        Every row is a weighted sum of all images; scaled such that its bias coordinate is 1 where there is one.
        """
        rows = -self.left * self.singular_values
        if self.ones is None:
            return rows
        scale = rows @ self.ones
        away = scale.abs().clamp_min(1e-9 * float(scale.abs().max()))
        return rows / torch.where(scale < 0, -away, away)[:, None]

    def signals(self, m: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and signals, both (..., C), at coordinates m (..., K) of images with `labels` (...)."""
        p = torch.softmax(m @ self.logit_map.T + self.offset, -1)
        return p, p - one_hot(labels, len(self.offset)).to(p)

    def gradient_of(self, m: Tensor, labels: Tensor) -> Tensor:
        """What images at m (n, K) with `labels` (n,) have in the summed gradient, (C, D), or (C, D + 1) with a bias."""
        _, signals = self.signals(m, labels)
        rows = m @ self.basis.T
        ends = [] if self.ones is None else [torch.ones_like(rows[:, :1])]
        return signals.T @ torch.cat([rows, *ends], 1)


def tangents_of(p: Tensor, logit_map: Tensor) -> Tensor:
    """How predictions p (..., C) follow coordinates that a `logit_map` (C, K) makes logits of: dp / dm (..., C, K)."""
    tangents: Tensor = p[..., None] * (logit_map - (p @ logit_map)[..., None, :])
    return tangents


def without_rounding(gradient: Tensor, images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient (C, D) of rank K that is nearest, each row measured in units of its own length, factored.

    Rounding is relative: rows of classes that hardly occur are small and as exact as others. Weighed alike, they
    keep faint images from being lost in the rounding of large rows. Returns U (C, K), S (K,) and V^T (K, D) of it,
    and all singular values of the gradient in those units: behind the K-th there is rounding.
    """
    lengths = row_lengths(gradient)
    u, values, vt = torch.linalg.svd(gradient / lengths, full_matrices=False)
    q, r = torch.linalg.qr(lengths * u[:, :images] * values[:images])
    left, s, right = torch.linalg.svd(r)
    return q @ left, s, right @ vt[:images], values


# ----------------------------------------------------------------------------------------- one image at a time


def can_be_found_one_by_one(layer: LastLayer, images: int) -> bool:
    """Whether there are more equations for each image than unknowns in it.

    >>> layer = LastLayer(weight=torch.zeros(10, 50), bias=None, weight_gradient=torch.zeros(10, 50),
    ...                   bias_gradient=None)
    >>> can_be_found_one_by_one(layer, 4), can_be_found_one_by_one(layer, 5)
    (True, False)
    """
    classes, dimension = layer.weight.shape
    equations = classes - images + (1 if layer.bias_gradient is not None else 0)
    return images < equations and images < dimension


def find_images(
    layer: LastLayer,
    images: int,
    classes: Sequence[int],
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Tensor, Tensor]:
    """Features (n, D) and labels (n,) of the images that the gradient of K `images` lets find, n <= K.

    Only images of the `classes` given are looked for. What is returned explains its part of the gradient down to
    rounding noise; that it explains all of it, `disaggregation` proves. Raises `CannotSeparate`.
    """
    generator = torch.Generator().manual_seed(seed)
    rest = summed_gradient(layer, images)
    features, labels = rest.new_zeros(0, layer.weight.shape[1]), torch.zeros(0, dtype=torch.long, device=rest.device)
    candidates = torch.tensor(sorted(classes), device=rest.device)
    for attempt in range(ROUNDS):
        factors = Factors.of(layer, rest, images - len(labels), taken_off=len(labels) > 0)
        m, found = _find_some(factors, candidates, attempt, generator, stop)
        if len(found):
            rest = rest - factors.gradient_of(m, found)
            features, labels = torch.cat([features, m @ factors.basis.T]), torch.cat([labels, found])
        if len(labels) == images or stop():
            break
    return features, labels


def _find_some(
    factors: Factors, classes: Tensor, attempt: int, generator: torch.Generator, stop: Callable[[], bool]
) -> tuple[Tensor, Tensor]:
    """Coordinates (n, K) and labels (n,) of images of these classes; one search, with new starts each time."""
    starts = 6 if attempt == 0 else 20
    labels = classes.repeat_interleave(starts)
    points = starts_for(factors, labels[:, None], generator)[:, 0]
    ends, ratios = [], []
    together = max(4, ROOM // (factors.images * len(factors.offset)))
    for some in torch.split(torch.arange(len(labels)), together):
        if stop():
            break
        equations = squared(single_equations(factors))
        m, _ = levenberg_marquardt(equations, points[some], labels[some], iterations=60)
        ends.append(m)
        ratios.append(noise_ratio(factors, m, labels[some]))
    if not ends:
        return points[:0], labels[:0]
    m, ratio, labels = torch.cat(ends), torch.cat(ratios), labels[: sum(map(len, ends))]
    chosen: list[int] = []
    _, signals = factors.signals(m, labels)
    duals = signals @ factors.left / factors.singular_values  # S^-1 c: biorthogonal to all other images
    for i in ratio.argsort().tolist():
        if ratio[i] > NOISE or len(chosen) == factors.images:
            break
        others = torch.tensor(chosen, dtype=torch.long)
        crossing = torch.cat([(m[others] @ duals[i]).abs(), (duals[others] @ m[i]).abs()])
        if not len(crossing) or float(crossing.max()) < 0.1:
            chosen.append(i)
    return m[chosen], labels[chosen]


def starts_for(factors: Factors, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Random starts (T, K', K) for assumed labels (T, K'): half around the classes' embeddings, half from scratch.

    Those from scratch share what all images share, as far as the bias tells, and differ from it by a random
    amount in random directions; features of different images are nearly orthogonal beyond what they share.
    """

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(embeddings)

    embeddings, (tries, together) = factors.embeddings(), labels.shape
    spread = embeddings - embeddings.mean(0)
    amounts = torch.rand(tries, together, 1, generator=generator, dtype=torch.float64).to(embeddings)
    starts = embeddings[labels] + (random(tries, together, len(spread)) * amounts) @ spread
    if factors.ones is None or factors.images < 2:
        return starts
    length = factors.ones.norm()
    frames = torch.linalg.qr(random(tries, factors.images, factors.images))[0][:, :together]
    frames = frames - (frames @ factors.ones)[..., None] * factors.ones / length**2
    sizes = 10 ** (-2 * torch.rand(tries, 1, 1, generator=generator, dtype=torch.float64)).to(embeddings)
    scratch = factors.ones / length**2 + sizes * factors.images**0.5 / length * frames
    odd = torch.arange(tries, device=labels.device) % 2 == 1
    return torch.where(odd[:, None, None], scratch, starts)


def noise_ratio(factors: Factors, m: Tensor, labels: Tensor) -> Tensor:
    """(T,): each image's residual outside the signals' space, in units of the rounding noise expected there."""
    p, signals = factors.signals(m, labels)
    inside = signals @ factors.left
    outside = (signals - inside @ factors.left.T).square().sum(-1) / max(1, len(factors.offset) - factors.images)
    # The client rounds logits, which moves probabilities in proportion, and then the probabilities themselves.
    logits = (m @ factors.logit_map.T).abs().amax(-1)
    rounded = EPSILON * (p.amax(-1) / 2 + logits * signals.abs().amax(-1))
    expected = (factors.noise * (inside / factors.singular_values).norm(dim=-1)).square()
    expected = expected + rounded.square() / len(factors.offset)
    along = (m * inside / factors.singular_values).sum(-1)
    ratio: Tensor = (outside / expected).sqrt()
    return torch.where((along - 1).abs() < 1e-2, ratio, torch.inf)


def single_equations(factors: Factors) -> Equations:
    """What one image has to satisfy by itself: points m (T, K), labels (T,), C + 1 residuals or C + 2 with a bias.

    In this order: (I - U U^T) a = 0, then m . S^-1 U^T a = 1, then (V m) ends in 1.
    """
    outside = torch.eye(len(factors.offset)).to(factors.left) - factors.left @ factors.left.T
    to_duals = factors.left / factors.singular_values  # (C, K)

    def equations(m: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        p, a = factors.signals(m, labels)
        tangents = tangents_of(p, factors.logit_map)  # da / dm (T, C, K)
        dual = a @ to_duals
        residuals = [a @ outside, ((m * dual).sum(1) - 1)[:, None]]
        slopes = [outside @ tangents, (dual + (m[:, None, :] @ (to_duals.T @ tangents))[:, 0])[:, None, :]]
        if factors.ones is not None:
            residuals.append((m @ factors.ones - 1)[:, None])
            slopes.append(factors.ones.expand(len(m), 1, -1))
        return torch.cat(residuals, 1), torch.cat(slopes, 1)

    return equations


# --------------------------------------------------------------------------------------------------- the solver


def squared(equations: Equations) -> Quadratics:
    """Residuals and Jacobians as what least squares needs of them."""

    def quadratics(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        residuals, slopes = equations(points, labels)
        gradients = (slopes.mT @ residuals[:, :, None])[:, :, 0]
        return residuals.square().sum(1), gradients, slopes.mT @ slopes

    return quadratics


def levenberg_marquardt(
    problems: Quadratics,
    points: Tensor,
    labels: Tensor,
    *,
    iterations: int,
    enough: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Minimise T small least-squares problems side by side: points (T, n) and their squared residuals (T,).

    Problems that no longer move, or reached `enough`, drop out.
    """
    points = points.clone()
    costs = torch.full_like(points[:, 0], torch.inf)
    damping = torch.full_like(costs, 1e-2)
    active = torch.arange(len(points), device=points.device)
    here, stalls = points, torch.zeros_like(active)
    cost, gradient, normal = problems(here, labels)
    cost = cost.nan_to_num(torch.inf)
    for _ in range(iterations):
        diagonal = normal.diagonal(dim1=1, dim2=2)
        diagonal = damping[active, None] * diagonal.clamp_min(1e-10 * diagonal.amax(1, keepdim=True))
        factor, failed = torch.linalg.cholesky_ex(normal + torch.diag_embed(diagonal))
        there = here - torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
        new_cost, new_gradient, new_normal = problems(there, labels[active])
        new_cost = new_cost.nan_to_num(torch.inf)
        better = (new_cost < cost) & (failed == 0)
        gain = torch.where(better, 1 - new_cost / cost, 0.0)
        damping[active] = torch.where(better, damping[active] / 5, damping[active] * 4).clamp(1e-14, 1e12)
        stalls[active] = torch.where(gain > 1e-3, 0, stalls[active] + 1)
        here = torch.where(better[:, None], there, here)
        gradient = torch.where(better[:, None], new_gradient, gradient)
        normal = torch.where(better[:, None, None], new_normal, normal)
        cost = torch.where(better, new_cost, cost)
        points[active], costs[active] = here, cost
        going = (stalls[active] < 12) & (cost > enough)
        if not going.all():
            active, here, cost = active[going], here[going], cost[going]
            gradient, normal = gradient[going], normal[going]
            if not len(active):
                break
    return points, costs


def conjugate_gradients(
    curved: Callable[[Tensor], Tensor],
    gradient: Tensor,
    blocks: Tensor,
    damping: Tensor,
    *,
    most: int,
    accurate: float,
) -> Tensor:
    """The damped step (K, n) down a `gradient` (K, n) of K images, for whom a normal matrix would be too large.

    `curved` multiplies it with a step, `blocks` (K, n, n) are each image's own part of it, the preconditioner, and
    `damping` (K, n) is added to its diagonal. Stops where a share `accurate` of the energy is left, or after `most`.
    """
    factors = torch.linalg.cholesky_ex(blocks + torch.diag_embed(damping))[0]

    def precondition(x: Tensor) -> Tensor:
        return torch.cholesky_solve(x[..., None], factors)[..., 0]

    step, left = torch.zeros_like(gradient), -gradient
    direction = ahead = precondition(left)
    energy = first = (left * ahead).sum()
    for _ in range(most):
        pushed = curved(direction) + damping * direction
        length = energy / (direction * pushed).sum()
        step, left = step + length * direction, left - length * pushed
        ahead = precondition(left)
        previous, energy = energy, (left * ahead).sum()
        if energy < accurate * first:
            break
        direction = ahead + (energy / previous) * direction
    return step
