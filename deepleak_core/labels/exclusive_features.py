"""Count the images that have features of their own, for batches of any size.

A batch of as many images as classes cannot be separated: the last layer's gradient has too low a rank. But each of its
columns, one for each feature d, is a combination of the images' signals with weights that are never negative,

    G_d - floor * g = sum_k (f_kd - floor) a_k,

and after ReLU most weights are zero. A feature that is active for a single image shows that image's signal alone, up to
its length: two such columns are parallel, which combinations of several signals are only by accident. So columns that
are parallel within rounding noise stand for one image. Its label is the one negative entry, since a_k = p_k - e_{y_k}.
This includes images that the network is sure of, whose signals are tiny; but the larger the batch, the fewer features
any image has of its own.

SPEAR (Dimitrov et al. 2024) reads zeros of ReLU where the rank is as large as the batch; pure pixels are used likewise
in spectral unmixing (Boardman 1993).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import Tensor

from deepleak_core.features.last_layer import EPSILON, LastLayer, summed_gradient

ROUNDING = EPSILON / 4  # error of an entry of the gradient relative to the largest entry
VISIBLE = 30.0  # length of a column over its rounding error from which its direction is used
NEGATIVE = 3.0  # rounding errors below zero from which an entry counts as negative
PARALLEL = 30.0  # distance of two directions over its rounding error up to which they are the same
COMBINED = 30.0  # distance of a direction from combinations of others, likewise, up to which it is one of them,
TINGED = 1e-3  # or up to this distance: signals of images the network is sure of slightly change other directions

Floats = npt.NDArray[np.float64]


def count_exclusive(layer: LastLayer, images: int) -> Tensor:
    """Counts (C,) of images that have at least two features of their own; at most `images` in all.

    Zero for every class where the layer has no floor, or no bias to measure it by. Raises `CannotSeparate`.

    >>> weight = torch.zeros(2, 4)
    >>> alone = torch.tensor([[-2.0, -3.0, 0.1, 0.2], [2.0, 3.0, -0.1, -0.2]])  # two images, two features each
    >>> bias, bias_gradient = torch.zeros(2), alone.sum(1)
    >>> layer = LastLayer(
    ...     weight=weight, bias=bias, weight_gradient=alone, bias_gradient=bias_gradient, floor=0.0
    ... )
    >>> count_exclusive(layer, 2).tolist()
    [1, 1]
    """
    classes, dimension = layer.weight.shape
    counts = torch.zeros(classes, dtype=torch.long, device=layer.weight.device)
    summed = summed_gradient(layer, images)
    if layer.floor is None or layer.bias_gradient is None:
        return counts
    gradient = summed.dense()
    columns = (gradient[:, :dimension] - layer.floor * gradient[:, dimension:]).T.cpu().numpy()  # (D, C)
    noise = ROUNDING * np.abs(columns).max()
    lengths = np.linalg.norm(columns, axis=1)
    usable = (lengths > VISIBLE * noise) & ((columns < -NEGATIVE * noise).sum(1) == 1)
    directions, errors = columns[usable] / lengths[usable, None], noise / lengths[usable]
    labels = directions.argmin(1)
    bundles = [
        (size, error, int(label), direction)
        for label in np.unique(labels)
        for size, error, direction in _parallel_bundles(directions[labels == label], errors[labels == label])
    ]
    accepted: dict[int, list[Floats]] = {}
    for _, error, label, direction in sorted(bundles, key=lambda bundle: (-bundle[0], bundle[1])):
        others = accepted.setdefault(label, [])
        distance = nnls(np.stack(others, 1), direction)[1] if others else 1.0
        if int(counts.sum()) < images and distance > max(TINGED, COMBINED * error):
            others.append(direction)
            counts[label] += 1
    return counts


def _parallel_bundles(directions: Floats, errors: Floats) -> list[tuple[int, float, Floats]]:
    """Groups of at least two parallel rows (n, C), most precise rows first: size, error and direction."""
    found, free = [], np.ones(len(directions), dtype=bool)
    for row in errors.argsort():
        if free[row]:
            distances = np.linalg.norm(directions - directions[row], axis=1)
            members = free & (distances <= PARALLEL * np.hypot(errors, errors[row]))
            free &= ~members
            if members.sum() > 1:
                found.append((int(members.sum()), float(errors[members].min()), directions[row]))
    return found
