"""Find the images of a batch one by one in the last layer's gradient, without knowing labels.

In the notation of `factors`, every image satisfies for itself

    (I - U U^T) a_k = 0,    ones . m_k = 1,    m_k . S^-1 c_k = 1,     where a_k follows from m_k and its label y_k:

C - K + 1 equations for the K unknowns of m_k. While 2 K <= C, images of each class can therefore be searched without
knowing anything of the others. `find_images` subtracts the images found from the gradient and searches again. For
larger batches, `simplex`, `ica` and `joint` look for all images at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deepleak_core.features.factors import Factors, random_starts, softmax_slopes
from deepleak_core.features.last_layer import EPSILON, LastLayer
from deepleak_core.features.least_squares import Quadratics, levenberg_marquardt, never

FOUND_RATIO = 6.0  # residual of an image over its expected rounding error, root mean square, up to which it is found
DUAL_TOLERANCE = 1e-2  # by which m . S^-1 c of a found image may differ from 1
CROSSING = 0.1  # m_k . S^-1 c_l from which two solutions are taken for the same image
JACOBIAN_ENTRIES = 400_000  # numbers in the Jacobians of all problems that are solved side by side
ROUNDS = 10  # searches with new starts before the remaining images count as not found
STARTS, MORE_STARTS = 6, 20  # for each class, in the first round and in later ones
ITERATIONS = 60  # Levenberg-Marquardt steps from each start


def can_be_found_one_by_one(layer: LastLayer, images: int) -> bool:
    """Whether there are more equations for each image than unknowns.

    >>> layer = LastLayer(weight=torch.zeros(10, 50), bias=None, weight_gradient=torch.zeros(10, 50),
    ...                   bias_gradient=None)
    >>> can_be_found_one_by_one(layer, 4), can_be_found_one_by_one(layer, 5)
    (True, False)
    """
    classes, dimension = layer.weight.shape
    equations = classes - images + (1 if layer.bias_gradient is not None else 0)
    return images < equations and images < dimension


def find_images(
    factors: Factors, classes: Sequence[int], *, seed: int = 0, stop: Callable[[], bool] = never
) -> tuple[Tensor, Tensor]:
    """Features (n, D) and labels (n,) of images of the given `classes`, n <= K.

    What is returned explains its part of the gradient down to rounding; `separate` verifies that a whole batch does.
    Deterministic for a fixed seed.
    """
    generator = torch.Generator().manual_seed(seed)
    images, rest = factors.images, factors
    features, labels = factors.basis.new_zeros(0, len(factors.basis)), torch.zeros(0, dtype=torch.long)
    labels = labels.to(features.device)
    candidates = torch.tensor(sorted(classes), device=features.device)
    for attempt in range(ROUNDS):
        if stop():
            break
        starts = STARTS if attempt == 0 else MORE_STARTS
        m, found = _search(rest, candidates.repeat_interleave(starts), generator, stop)
        features, labels = torch.cat([features, rest.features(m)]), torch.cat([labels, found])
        if len(labels) == images:
            break
        if len(found):
            rest = rest.without(m, found)
    return features, labels


def _search(
    factors: Factors, labels: Tensor, generator: torch.Generator, stop: Callable[[], bool]
) -> tuple[Tensor, Tensor]:
    """Coordinates (n, K) and labels (n,) of the images found from one random start for each of `labels` (T,)."""
    starts = random_starts(factors, labels[:, None], generator)[:, 0]
    equations = single_image_equations(factors)
    together = max(4, JACOBIAN_ENTRIES // (factors.images * len(factors.offset)))
    ends = []
    for part, assumed in zip(torch.split(starts, together), torch.split(labels, together), strict=True):
        if stop():
            break
        ends.append(levenberg_marquardt(equations, part, assumed, iterations=ITERATIONS, stop=stop)[0])
    if not ends:
        return starts[:0], labels[:0]
    m = torch.cat(ends)
    labels = labels[: len(m)]
    chosen = _distinct(factors, m, labels, noise_ratio(factors, m, labels))
    return m[chosen], labels[chosen]


def _distinct(factors: Factors, m: Tensor, labels: Tensor, ratio: Tensor) -> list[int]:
    """Places of solutions m (T, K) with a low noise `ratio` (T,), the best first, each of another image."""
    chosen: list[int] = []
    _, signals = factors.signals(m, labels)
    duals = signals @ factors.left / factors.singular_values  # S^-1 c: biorthogonal to all other images
    for i in ratio.argsort().tolist():
        if ratio[i] > FOUND_RATIO or len(chosen) == factors.images:
            break
        others = torch.tensor(chosen, dtype=torch.long)
        crossing = torch.cat([(m[others] @ duals[i]).abs(), (duals[others] @ m[i]).abs()])
        if not len(crossing) or float(crossing.max()) < CROSSING:
            chosen.append(i)
    return chosen


def noise_ratio(factors: Factors, m: Tensor, labels: Tensor) -> Tensor:
    """Residual of each image (T,) outside the span of the signals, over the rounding error expected there.

    Infinite where m . S^-1 c differs from 1.
    """
    p, signals = factors.signals(m, labels)
    inside = signals @ factors.left
    outside = (signals - inside @ factors.left.T).square().sum(-1) / max(1, len(factors.offset) - factors.images)
    # The client rounds logits, which moves probabilities in proportion, and then the probabilities themselves.
    logits = (m @ factors.logit_map.T).abs().amax(-1)
    rounded = EPSILON * (p.amax(-1) / 2 + logits * signals.abs().amax(-1))
    expected = (factors.noise * (inside / factors.singular_values).norm(dim=-1)).square()
    expected = expected + rounded.square() / len(factors.offset)
    dual = (m * inside / factors.singular_values).sum(-1)
    ratio: Tensor = (outside / expected).sqrt()
    return torch.where((dual - 1).abs() < DUAL_TOLERANCE, ratio, torch.inf)


def single_image_equations(factors: Factors) -> Quadratics:
    """The equations of one image at the head of this module, for points m (T, K) and labels (T,)."""
    outside = torch.eye(len(factors.offset)).to(factors.left) - factors.left @ factors.left.T
    to_duals = factors.left / factors.singular_values  # (C, K)

    def quadratics(m: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p, a = factors.signals(m, labels)
        slopes = softmax_slopes(p, factors.logit_map)  # da / dm (T, C, K)
        dual = a @ to_duals
        residuals = [a @ outside, ((m * dual).sum(1) - 1)[:, None]]
        jacobians = [outside @ slopes, (dual + (m[:, None, :] @ (to_duals.T @ slopes))[:, 0])[:, None, :]]
        if factors.ones is not None:
            residuals.append((m @ factors.ones - 1)[:, None])
            jacobians.append(factors.ones.expand(len(m), 1, -1))
        residual, jacobian = torch.cat(residuals, 1), torch.cat(jacobians, 1)
        gradient = (jacobian.mT @ residual[:, :, None])[:, :, 0]
        return residual.square().sum(1), gradient, jacobian.mT @ jacobian

    return quadratics
