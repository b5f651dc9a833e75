"""Parameters and gradient of the target model's last linear layer, in the form that feature separation reads.

With features f_k (D,) and signals a_k = softmax(W f_k + b) - e_{y_k} (C,) of K images, the summed gradient of the
cross-entropy in the layer's weight and bias is

    G = sum_k a_k f_k^T   (C, D),      g = sum_k a_k   (C,).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from deepleak_core.errors import CannotSeparate
from deepleak_core.federated.target_model import TargetModel

EPSILON = torch.finfo(torch.float32).eps  # clients compute in single precision
SHORTEST_ROW = 1e-6  # of the longest row of a gradient; shorter rows are scaled as if they had this length


@dataclass(frozen=True, kw_only=True)
class LastLayer:
    """The last layer as the server sent it, `weight` (C, D) and `bias` (C,) or None, and their mean gradients.

    `floor` is the least value that the activation before the layer can take: 0 for ReLU, -1 for ELU, None where there
    is no bound. `smooth` says that features come close to the floor without reaching it, as after ELU or sigmoid;
    after ReLU most features equal it.
    """

    weight: Tensor
    bias: Tensor | None
    weight_gradient: Tensor
    bias_gradient: Tensor | None
    floor: float | None = None
    smooth: bool = False

    @classmethod
    def of(cls, model: TargetModel, gradient: Mapping[str, Tensor]) -> LastLayer:
        """The last layer of `model`, with its part of the shared mean gradient of all parameters by name."""
        return cls(
            weight=model.head.weight.detach(),
            bias=None if model.head.bias is None else model.head.bias.detach(),
            weight_gradient=gradient["head.weight"],
            bias_gradient=gradient.get("head.bias"),
            floor=model.floor,
            smooth=model.smooth,
        )


def summed_gradient(layer: LastLayer, images: int) -> Tensor:
    """The gradient summed over the batch in float64, (C, D), or (C, D + 1) with the bias gradient as last column.

    Raises `CannotSeparate` where it is zero or not finite.
    """
    parts = [layer.weight_gradient]
    if layer.bias_gradient is not None:
        parts.append(layer.bias_gradient[:, None])
    gradient = torch.cat(parts, 1).double().mul_(images)
    norm = float(gradient.norm())
    if not math.isfinite(norm) or norm == 0:
        raise CannotSeparate("The last layer's gradient is zero or not finite: it holds no features at all.")
    return gradient


def row_lengths(gradient: Tensor) -> Tensor:
    """Euclidean lengths (C, 1) of the rows of a gradient (C, D), bounded below by `SHORTEST_ROW`."""
    lengths: Tensor = gradient.norm(dim=1, keepdim=True)
    return lengths.clamp_min(SHORTEST_ROW * float(lengths.max()))
