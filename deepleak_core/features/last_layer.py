"""Parameters and gradient of the target model's last linear layer, in the form that feature separation reads.

With features f_k (D,) and signals a_k = softmax(W f_k + b) - e_{y_k} (C,) of K images, the summed gradient of the
cross-entropy in the layer's weight and bias is

    G = sum_k a_k f_k^T   (C, D),      g = sum_k a_k   (C,).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deepleak_core.errors import CannotSeparate
from deepleak_core.federated.target_model import TargetModel

EPSILON = torch.finfo(torch.float32).eps  # clients compute in single precision
SHORTEST_ROW = 1e-6  # of the longest row of a gradient; shorter rows are scaled as if they had this length
BLOCK_ENTRIES = 2_000_000  # of a large gradient that are held in float64 at once, 16 MB


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


@dataclass(frozen=True, kw_only=True)
class SummedGradient:
    """The gradient summed over the batch, weights and bias side by side, with its rows scaled: (C, D) or (C, D + 1).

    Row c is `scale[c]` times the row of the mean gradient. Entries are converted to float64 a block of rows at a time,
    since a copy of the gradient of a large layer would take twice the memory of the layer.
    """

    weight_gradient: Tensor
    bias_gradient: Tensor | None
    scale: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        rows, columns = self.weight_gradient.shape
        return rows, columns + (self.bias_gradient is not None)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Consecutive rows in float64, with their places."""
        rows, columns = self.shape
        size = max(1, BLOCK_ENTRIES // columns)
        for first in range(0, rows, size):
            place = slice(first, min(first + size, rows))
            part = self.weight_gradient[place].to(torch.float64, copy=True)
            if self.bias_gradient is not None:
                part = torch.cat([part, self.bias_gradient[place, None].double()], 1)
            yield place, part.mul_(self.scale[place, None])

    def dense(self) -> Tensor:
        """The whole matrix in float64."""
        return torch.cat([block for _, block in self.blocks()])

    def times(self, right: Tensor) -> Tensor:
        """The product with a matrix (columns, n), in the precision of that matrix."""
        if right.dtype == torch.float64:
            return torch.cat([block @ right for _, block in self.blocks()])
        dimension = self.weight_gradient.shape[1]
        product = self.weight_gradient.to(right) @ right[:dimension]
        if self.bias_gradient is not None:
            product += self.bias_gradient.to(right)[:, None] * right[dimension:]
        return product.mul_(self.scale.to(right)[:, None])

    def transposed_times(self, left: Tensor) -> Tensor:
        """The product of the transposed matrix with a matrix (rows, n), in the precision of that matrix."""
        if left.dtype == torch.float64:
            parts = (left[place].T @ block for place, block in self.blocks())
            return sum(parts, torch.zeros((), dtype=left.dtype, device=left.device)).T
        scaled = self.scale.to(left)[:, None] * left
        product = scaled.T @ self.weight_gradient.to(left)
        if self.bias_gradient is not None:
            product = torch.cat([product, (self.bias_gradient.to(left) @ scaled)[:, None]], 1)
        return product.T


def summed_gradient(layer: LastLayer, images: int) -> SummedGradient:
    """The gradient summed over the batch of a layer. Raises `CannotSeparate` where it is zero or not finite."""
    parts = [part for part in (layer.weight_gradient, layer.bias_gradient) if part is not None]
    largest = torch.stack([extreme for part in parts for extreme in (part.amax().abs(), part.amin().abs())]).max()
    if not 0 < float(largest) < math.inf:  # NaN as well
        raise CannotSeparate("The last layer's gradient is zero or not finite: it holds no features at all.")
    scale = torch.full((len(layer.weight_gradient),), float(images), dtype=torch.float64)
    return SummedGradient(
        weight_gradient=layer.weight_gradient,
        bias_gradient=layer.bias_gradient,
        scale=scale.to(layer.weight_gradient.device),
    )


def row_lengths(gradient: SummedGradient) -> Tensor:
    """Euclidean lengths (C,) of the rows of a gradient, bounded below by `SHORTEST_ROW`."""
    lengths = torch.cat([block.norm(dim=1) for _, block in gradient.blocks()])
    return lengths.clamp_min(SHORTEST_ROW * float(lengths.max()))


def unit_rows(gradient: SummedGradient) -> tuple[SummedGradient, Tensor]:
    """The gradient with rows scaled to unit length, and the lengths (C,) that they had."""
    lengths = row_lengths(gradient)
    return replace(gradient, scale=gradient.scale / lengths), lengths


def rows_times(weight: Tensor, right: Tensor) -> Tensor:
    """The product of a weight matrix (C, D) with a float64 matrix (D, n), in float64 without a copy of the weight."""
    ones = torch.ones(len(weight), dtype=torch.float64, device=weight.device)
    return SummedGradient(weight_gradient=weight, bias_gradient=None, scale=ones).times(right)
