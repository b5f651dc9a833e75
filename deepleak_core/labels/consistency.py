"""Say why label counts could not be certified: the update is scaled, or not of as many images as reported.

The rank of the last layer's gradient is the number of images (`features.factors`). Which features it is made of does
not depend on its scale, and features imply predictions p_k, so the scale of the signals p_k - e_{y_k} in the gradient
can be measured: 1 for the plain sum over the batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from deepleak_core.errors import CannotSeparate
from deepleak_core.features.factors import Factors
from deepleak_core.features.last_layer import LastLayer, summed_gradient, unit_rows
from deepleak_core.features.layer_equations import LayerEquations, first_guess
from deepleak_core.features.least_squares import never
from deepleak_core.features.separate import solve_equations
from deepleak_core.features.simplex import largest_simplices
from deepleak_core.labels.evidence import round_counts

RANK_GAP = 1e3  # ratio of neighbouring singular values from which the smaller one is rounding
MOST_ENTRIES = 2_000_000  # of a gradient, whose singular values take about a second
SECONDS = 3.0  # for the search of features whose scale is measured
SAME_SCALE = 0.02  # relative difference up to which scales agree
SIGNAL_MISFIT = 0.05  # relative distance of a scaled signal from that of any label, up to which it is an image's
TRIALS = 2  # simplices that are tried
SECANT_STEPS = 8  # in the search of a scale under which features explain the gradient
EXPLAINED = 1e-11  # squared residual, relative to the largest singular value, at which they do


def hint(
    layer: LastLayer, images: int, estimate: Tensor, *, seed: int = 0, stop: Callable[[], bool] = never
) -> str | None:
    """A sentence on the scale or the batch size of a mean gradient of `images`, None where nothing seems wrong.

    `estimate` (C,) are the real-valued counts of the zero-shot rule.
    """
    rank = numerical_rank(layer, images)
    if rank is None:
        return None
    try:
        scale = gradient_scale(layer, rank, estimate / images, seed=seed, stop=stop)
    except CannotSeparate:
        return None
    if scale is None:
        more = f"The gradient has rank {rank}: it is of more than {images} images, so check the batch size."
        return more if rank > images else None
    fits, sized = abs(scale - 1) < SAME_SCALE, rank == images
    if (fits and sized) or abs(scale * images / rank - 1) < SAME_SCALE:  # the rank misses images that leave too little
        return None
    if fits:
        return f"The gradient is that of {counted(rank)}, not {images}: check the batch size."
    if sized:
        return f"The gradient is {scale:.3g} times that of {counted(images)}: check its scale."
    return f"The gradient is {scale:.3g} times that of {counted(rank)}, not {images}: check batch size and scale."


def counted(images: int) -> str:
    """A number of images in words.

    >>> counted(1), counted(2)
    ('1 image', '2 images')
    """
    return f"{images} image{'s' if images > 1 else ''}"


def numerical_rank(layer: LastLayer, images: int) -> int | None:
    """Number of singular values of the gradient above rounding noise; None where noise leaves no gap among them."""
    try:
        gradient = summed_gradient(layer, images)
    except CannotSeparate:
        return None
    if math.prod(gradient.shape) > MOST_ENTRIES:
        return None
    values = torch.linalg.svdvals(unit_rows(gradient)[0].dense())
    most = len(layer.weight) - 1  # signals sum to zero: there is always a gap after it
    ratios = values[:most] / values[1 : most + 1].clamp_min(1e-300)
    rank = int(ratios.argmax()) + 1
    return rank if rank < most and float(ratios[rank - 1]) > RANK_GAP else None


def gradient_scale(
    layer: LastLayer, images: int, shares: Tensor, *, seed: int = 0, stop: Callable[[], bool] = never
) -> float | None:
    """By what the mean gradient of so many `images` was multiplied; None where their features are not found.

    `shares` (C,) are estimated counts over the batch size, as they would be if the gradient were not scaled.
    """
    factors, end = Factors.of(layer, images), time.monotonic() + SECONDS

    def late() -> bool:
        return stop() or time.monotonic() > end

    for vertices, _ in islice(largest_simplices(factors, seed=seed, stop=late), TRIALS):
        scale, exact = _common_scale(factors, vertices)
        if exact:
            return scale
    return _scale_by_labels(layer, images, shares, late) if layer.bias_gradient is not None else None


def _scale_by_labels(layer: LastLayer, images: int, shares: Tensor, stop: Callable[[], bool]) -> float | None:
    """The scale under which features explain the gradient, by the secant method on the scale that they imply.

    Where class c is absent, the bias gradient is s mean(p_c): the largest ratio of both is a first guess of the scale.
    """
    assert layer.bias_gradient is not None, "the scale is estimated from the bias"
    bias = layer.bias_gradient.double()
    probabilities = (shares + bias).clamp_min(1e-12)
    scale = float((bias / probabilities).max())
    counts = round_counts(images * (probabilities - bias / scale), images)
    start, before = None, (0.0, 0.0)
    for step in range(SECANT_STEPS):
        if stop() or not 0 < scale < torch.inf:
            return None
        plain = replace(layer, weight_gradient=layer.weight_gradient / scale, bias_gradient=bias / scale)
        factors = Factors.of(plain, images)
        equations = LayerEquations.of(factors, counts)
        guess = first_guess(equations, torch.Generator().manual_seed(0)) if start is None else start @ equations.basis
        m = solve_equations(equations, guess, equations.whitening, stop)
        start = m @ equations.basis.T
        ratio, agree = _common_scale(factors, factors.coordinates(start))
        if agree and equations.relative_residual(m) < EXPLAINED:
            return scale
        slope = (ratio - 1 - before[1]) / (scale - before[0]) if step else 0.0
        before = scale, ratio - 1
        scale = scale - (ratio - 1) / slope if slope else scale * ratio
    return None


def _common_scale(factors: Factors, m: Tensor) -> tuple[float, bool]:
    """The median scale of all signals at coordinates m (K, K), and whether all agree and are those of images."""
    inverse = torch.linalg.inv_ex(m)[0]
    scaled = (inverse.mT * factors.singular_values) @ factors.left.T  # (K, C): signals up to the scale
    p = factors.probabilities(m)
    signals = p[:, None] - torch.eye(len(factors.offset)).to(p)  # (K, C, C): for every label
    scales = (signals * scaled[:, None]).sum(2) / signals.square().sum(2)
    distances = (scaled[:, None] - scales[..., None] * signals).norm(dim=2) / scaled.norm(dim=1, keepdim=True)
    distance, labels = distances.min(1)
    each = scales.gather(1, labels[:, None])[:, 0]
    scale = float(each.median())
    agree = scale > 0 and bool(((each / scale - 1).abs() < SAME_SCALE).all())
    return scale, agree and bool((distance < SIGNAL_MISFIT).all())
