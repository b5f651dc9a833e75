"""Separate the last layer's gradient into one feature vector per image, given label counts.

A batch of K images shares of its last layer only a sum of K outer products (`last_layer`), which is why images of one
class fuse in gradient matching. But the gradient has rank K (`factors`), and features that reproduce it solve a
nonlinear system (`layer_equations`) with more equations than unknowns. Levenberg-Marquardt solves it in float64 from
several starting points. The residual is at rounding level for the right label counts and orders of magnitude above it
for wrong ones, so a solution certifies its label counts without the ground truth.

Closest relative: SPEAR (Dimitrov et al. 2024, arXiv 2403.03945) separates exact batches through fully connected ReLU
layers, single-class batches included, by the same low-rank factorisation and ReLU sparsity. HF-GradInv (AAAI 2024)
separates images of one class approximately. LT-code peeling (Shariati and Meybodi 2026) certifies recoveries in MLPs
without ground truth. R-GAP (Zhu and Blaschko 2021) and iLRG (Ma et al. 2023) read the same layer for one image, or one
mean image per class; the Cocktail Party Attack (Kariyappa et al. 2022) separates features by independence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from deepleak_core.errors import NotSeparated
from deepleak_core.features.factors import Factors, random_starts
from deepleak_core.features.ica import independent_images
from deepleak_core.features.joint import implied_labels, solve_large, solve_together
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.layer_equations import LayerEquations, first_guess
from deepleak_core.features.least_squares import levenberg_marquardt, matrix_free_levenberg_marquardt, never
from deepleak_core.features.simplex import largest_simplices

DENSE_UNKNOWNS = 1600  # up to here the normal matrix is formed and factored at once, in some 0.1 s
LARGEST_DENSE_UNKNOWNS = 5000  # up to here it is where conjugate gradients converge slowly; some seconds a step
SLOW_GAIN = 0.5  # relative reduction of the squared residual below which steps by conjugate gradients are slow
CONJUGATE_STEPS, CONJUGATE_ACCURACY = 250, 1e-10  # in a step, at most; share of the energy that they may leave
SETTLED_GAIN = 1e-7  # relative reduction of the squared residual below which a step is the last one
SETTLED_GAIN_LARGE = 2e-3  # likewise above DENSE_UNKNOWNS: certification does not need the last digits
ITERATIONS = 200  # Levenberg-Marquardt steps from each starting point, at most
SOLVED_MISFIT = 3.0  # below, only rounding is left and no other start is tried
CERTIFIED_MISFIT = 20.0  # up to here label counts are right; those of wrong counts were 100 and far more
LARGEST_RESIDUAL = 1e-8  # of the squared norm: features of absurd size would excuse any misfit as rounding
CLEAR_RATIO = 30.0  # K-th singular value over the next from which every image shows; wrong labels fitted below 8
ALLOWED_BELOW_FLOOR = 0.05  # of a feature vector's length, beside five times its estimated error
FEW_IMAGES = 32  # up to here a guess from class means is tried before the searches without labels
JOINT_IMAGES, JOINT_STARTS = 12, 32  # up to so many images are also solved jointly, from so many random starts
JOINT_SOLVED = 1e-13  # squared residual at which that search ends


@dataclass(frozen=True, kw_only=True)
class SeparatedFeatures:
    """One feature vector per image, and how far it can be trusted.

    `features` (K, D), `labels` (K,) and `signals` (K, C), the loss gradient of each image's logits, are in one order,
    that of ascending labels. `misfit` is the squared residual in units of the rounding error expected of a float32
    gradient, over the equations in excess of the unknowns: about 1 when solved, thousands and more otherwise.
    `residual` is the squared distance to the shared gradient over its squared norm. `errors` (K,) estimates the
    relative error of each feature vector. `singular_values` are the leading ones of the gradient with rows scaled to
    unit length, of which those after the K-th are noise.
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
        """Whether the faintest image stands out of rounding noise: only then are all label counts certified."""
        values, images = self.singular_values, len(self.labels)
        return images == len(values) or bool(values[images - 1] > CLEAR_RATIO * values[images])


def separate_features(
    layer: LastLayer | Factors,
    counts: Tensor,
    *,
    start: Tensor | None = None,
    seed: int = 0,
    tries: int = 24,
    stop: Callable[[], bool] = never,
) -> SeparatedFeatures:
    """The features of every image, from the last layer's mean gradient, or its factors, and label counts (C,).

    `start` (K, D), features in the order of ascending labels, is tried first, then `tries` starting points. Raises
    `CannotSeparate` where there are too many images for the layer, and `NotSeparated` where the counts are wrong or
    the gradient is not that of a single step without noise.
    """
    factors = layer if isinstance(layer, Factors) else Factors.of(layer, int(counts.sum()))
    equations = LayerEquations.of(factors, counts)
    generator = torch.Generator().manual_seed(seed)
    best, misfit, tried = None, float("inf"), 0
    for m in _starting_points(equations, factors, start, generator, tries, stop):
        tried += 1
        weights = equations.precision(m)
        m = solve_equations(equations, m, weights, stop)
        found = equations.misfit(m, weights)
        if found < misfit and equations.relative_residual(m) < LARGEST_RESIDUAL:
            best, misfit = m, found
        if misfit < SOLVED_MISFIT or stop():
            break
    if best is None or misfit > CERTIFIED_MISFIT:
        raise NotSeparated(
            f"No {equations.images} feature vectors with these label counts explain the last layer's gradient "
            f"(misfit {misfit:.1e} times rounding noise after {tried} tries, expected about 1): "
            "a label count is wrong, or the update is not the plain gradient of one batch.",
            misfit,
        )
    separated = _separated(equations, factors, best, misfit)
    _check_floor(separated, factors.layer.floor)
    return separated


def features_near(factors: Factors, counts: Tensor, start: Tensor) -> SeparatedFeatures:
    """The solution for label counts (C,) that is next to `start` (K, D), features in the order of ascending labels.

    Unlike `separate_features` it takes any misfit: for a gradient that is known approximately.
    """
    equations = LayerEquations.of(factors, counts)
    m = start.to(equations.basis) @ equations.basis
    weights = equations.precision(m)
    m = solve_equations(equations, m, weights)
    return _separated(equations, factors, m, equations.misfit(m, weights))


def solve_equations(equations: LayerEquations, m: Tensor, weights: Tensor, stop: Callable[[], bool] = never) -> Tensor:
    """Minimise the weighted squared residual from M (K, K); returns the point reached.

    Small systems are solved densely; larger ones by conjugate gradients, and densely once those become slow.
    """
    unknowns = equations.images**2
    small, formable = unknowns <= DENSE_UNKNOWNS, unknowns <= LARGEST_DENSE_UNKNOWNS
    if not small:
        m = matrix_free_levenberg_marquardt(
            lambda point: equations.linearised(point, weights),
            m,
            iterations=ITERATIONS,
            conjugate=CONJUGATE_STEPS,
            accuracy=CONJUGATE_ACCURACY,
            settled=SLOW_GAIN if formable else SETTLED_GAIN_LARGE,
            stop=stop,
        )
    if formable and not stop():
        settled = SETTLED_GAIN if small else SETTLED_GAIN_LARGE
        ends, _ = levenberg_marquardt(
            equations.quadratics(weights),
            m.view(1, -1),
            equations.labels[:1],
            iterations=ITERATIONS,
            settled=settled,
            stop=stop,
        )
        m = ends.view_as(m)
    return m


def _separated(equations: LayerEquations, factors: Factors, m: Tensor, misfit: float) -> SeparatedFeatures:
    """The solution M (K, K) in feature space, with an error estimate from curvature and rounding noise."""
    features = m @ equations.basis.T
    dense = equations.images**2 <= DENSE_UNKNOWNS
    variances = equations.variances(m, equations.precision(m), dense=dense)
    scale = max(1.0, misfit) ** 0.5
    return SeparatedFeatures(
        features=features,
        labels=equations.labels,
        signals=equations.signals(m),
        misfit=misfit,
        residual=equations.relative_residual(m),
        errors=scale * variances.sum(1).clamp_min(0).sqrt() / features.norm(dim=1),
        singular_values=factors.spectrum,
    )


def _check_floor(separated: SeparatedFeatures, floor: float | None) -> None:
    """Raise `NotSeparated` where a feature vector lies further below the activation's floor than its error."""
    if floor is None:
        return
    below = (separated.features - floor).clamp_max(0).norm(dim=1) / separated.features.norm(dim=1)
    if bool((below > ALLOWED_BELOW_FLOOR + 5 * separated.errors).any()):
        raise NotSeparated(
            f"The {len(below)} feature vectors that explain the last layer's gradient with these label counts "
            f"cannot come from this network: {float(below.max()):.0%} of one lies below {floor:g}, the least value of "
            "the activation; a label count is wrong.",
            separated.misfit,
        )


def _starting_points(
    equations: LayerEquations,
    factors: Factors,
    start: Tensor | None,
    generator: torch.Generator,
    tries: int,
    stop: Callable[[], bool],
) -> Iterator[Tensor]:
    """Points M (K, K) near a solution, the most promising first."""
    if start is not None:
        yield start @ equations.basis
    images, labels = factors.images, equations.labels
    for attempt in range(tries):
        if stop():
            return
        # Searches without labels come first for large batches. Callers who ask for a single try have made them.
        if tries > 1 and attempt == (0 if images > FEW_IMAGES else 1):
            for m in _points_without_labels(factors, labels, stop):
                yield factors.features(m) @ equations.basis
        guess = first_guess(equations, generator, informed=attempt % 2 == 0)
        near = solve_equations(equations, guess, equations.whitening, stop)
        yield solve_equations(equations, near, equations.uniform, stop)
        if attempt % 4 == 1 and images <= JOINT_IMAGES:
            same = labels.expand(JOINT_STARTS, -1)
            starts = random_starts(factors, same, generator)
            ends, costs = solve_together(
                factors, starts, same, bounds=factors.bounds, iterations=80, enough=JOINT_SOLVED, stop=stop
            )
            yield factors.features(ends[costs.argmin()]) @ equations.basis


def _points_without_labels(factors: Factors, labels: Tensor, stop: Callable[[], bool]) -> Iterator[Tensor]:
    """Coordinates m (K, K) found without labels, where the labels (K,) that they imply are the right ones."""

    def found() -> Iterator[Tensor]:
        if (independent := independent_images(factors, stop=stop)) is not None:
            yield solve_large(factors, independent, stop=stop)[0]
        for vertices, _ in largest_simplices(factors, stop=stop):
            yield vertices

    for m in found():
        implied = implied_labels(factors, m[None])[0].argmax(1)
        if torch.equal(implied.sort().values, labels):
            yield m[implied.argsort()]
