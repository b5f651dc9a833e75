"""Images counted by the features that they alone light up: labels of batches larger than the number of classes.

A batch of as many images as classes, or more, cannot be taken apart: the last layer's gradient has too few ranks. But
each of its columns, one for each feature d, is a mixture of the images' signals with weights that are never negative,

    G_d - floor * g = sum_k (f_kd - floor) a_k,

and after ReLU most weights are zero. A feature that a single image lights up shows that image's signal alone, up to
its length: two such columns have the very same direction, which mixtures have only by accident. So columns that are
parallel down to rounding noise are an image each; its label is the one entry that is negative, for a_k = p_k - e_{y_k}.
That works for images the network is sure of as well, whose signals are tiny; but the more images, the fewer features
any of them has for itself.

Relatives: SPEAR (Dimitrov et al. 2024) reads zeros of ReLU where the gradient has as many ranks as images; pure pixels
in the unmixing of spectra (Boardman 1993).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import Tensor

from deepleak_core.features.last_layer import EPSILON, LastLayer, summed_gradient

VISIBLE = 30.0  # length of a column in units of rounding noise from which on its direction is looked at
BELOW = 3.0  # of that noise: what counts as negative
PARALLEL = 30.0  # difference of two directions, in units of what noise makes of them, up to which they are the same
MIXED = 30.0  # likewise, up to which a direction is a mixture of others of its class,
TINGED = 1e-3  # or up to this: images the network is sure of tinge the directions of others with their tiny signals

Floats = npt.NDArray[np.float64]


def count_solitary(layer: LastLayer, images: int) -> Tensor:
    """How many images of each class (C,) have two features or more for themselves; at most K `images` in all.

    Zero for every class where the layer has no floor and no bias to measure it by. Raises `CannotSeparate`.

    >>> weight = torch.zeros(2, 4)
    >>> alone = torch.tensor([[-2.0, -3.0, 0.1, 0.2], [2.0, 3.0, -0.1, -0.2]])  # two images, two features each
    >>> bias, bias_gradient = torch.zeros(2), alone.sum(1)
    >>> layer = LastLayer(
    ...     weight=weight, bias=bias, weight_gradient=alone, bias_gradient=bias_gradient, floor=0.0
    ... )
    >>> count_solitary(layer, 2).tolist()
    [1, 1]
    """
    classes, dimension = layer.weight.shape
    counts = torch.zeros(classes, dtype=torch.long, device=layer.weight.device)
    gradient = summed_gradient(layer, images)
    if layer.floor is None or layer.bias_gradient is None:
        return counts
    columns = (gradient[:, :dimension] - layer.floor * gradient[:, dimension:]).T.cpu().numpy()  # (D, C)
    noise = EPSILON / 4 * np.abs(columns).max()
    lengths = np.linalg.norm(columns, axis=1)
    shown = (lengths > VISIBLE * noise) & ((columns < -BELOW * noise).sum(1) == 1)
    directions, errors = columns[shown] / lengths[shown, None], noise / lengths[shown]
    labels = directions.argmin(1)
    found = [
        (size, error, int(label), direction)
        for label in np.unique(labels)
        for size, error, direction in _bundles(directions[labels == label], errors[labels == label])
    ]
    told: dict[int, list[Floats]] = {}
    for _, error, label, direction in sorted(found, key=lambda bundle: (-bundle[0], bundle[1])):
        others = told.setdefault(label, [])
        apart = nnls(np.stack(others, 1), direction)[1] if others else 1.0
        if int(counts.sum()) < images and apart > max(TINGED, MIXED * error):
            others.append(direction)
            counts[label] += 1
    return counts


def _bundles(directions: Floats, errors: Floats) -> list[tuple[int, float, Floats]]:
    """Groups of two or more parallel rows (n, C), the surest row of each first asked: size, error and direction."""
    found, free = [], np.ones(len(directions), dtype=bool)
    for row in errors.argsort():
        if free[row]:
            apart = np.linalg.norm(directions - directions[row], axis=1)
            members = free & (apart <= PARALLEL * np.hypot(errors, errors[row]))
            free &= ~members
            if members.sum() > 1:
                found.append((int(members.sum()), float(errors[members].min()), directions[row]))
    return found
