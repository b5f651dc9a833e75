"""Pixels behind known layer outputs: the least-squares equations of a chain of convolutions, image by image.

Where peeling ends (`attack.peeling`), the outputs of a layer are known and its inputs are not. Pixels x of each image
solve the equations z_l(x) = known pre-activations of layer l. Their Jacobian is a product of convolutions and diagonal
slopes, J = C_l diag(s_{l-1}) C_{l-1} ... C_1, so products with J and its transpose cost one pass through the chain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepleak_core.attack.peeling import Level, Link, Peeled, slope, unactivate
from deepleak_core.attack.solvers import Linearisation


@dataclass(frozen=True)
class Known:
    """What is known of the pre-activations (P, C, H, W) of one layer.

    Where `equal`, they are `target`; where `below`, an upper bound of zero is all that ReLU leaves. `scale` (P, 1, 1,
    1) is one over the norm of each image's known values.
    """

    target: Tensor
    equal: Tensor
    below: Tensor
    scale: Tensor

    @classmethod
    def of(cls, level: Level, dtype: torch.dtype) -> Known:
        """The equations of a level whose outputs are known."""
        target, certain = unactivate(level.link.activation, level.outputs)
        equal, below = certain * level.known, (1 - certain) * level.known
        scale = 1 / (target * equal).flatten(1).norm(dim=1).clamp_min(1e-12)
        return cls(target.to(dtype), equal.to(dtype), below.to(dtype), scale.to(dtype).view(-1, 1, 1, 1))

    def of_images(self, active: Tensor) -> Known:
        """The equations of some of the images."""
        return Known(self.target[active], self.equal[active], self.below[active], self.scale[active])

    def residuals(self, values: Tensor) -> Tensor:
        """Relative errors (P, C, H, W) of pre-activations."""
        return (self.equal * (values - self.target) + self.below * values.relu()) * self.scale

    def slopes(self, values: Tensor) -> Tensor:
        """Derivative of the residuals in the pre-activations, element by element."""
        return (self.equal + self.below * (values > 0)) * self.scale


@dataclass(frozen=True)
class ChainEquations:
    """The equations of several images through a chain of links; see `solvers.Equations`."""

    links: tuple[Link, ...]
    known: dict[str, Known]

    @classmethod
    def of(cls, peeled: Peeled, dtype: torch.dtype) -> ChainEquations:
        """All levels that peeling left, computed in `dtype`."""
        reach = {link.name for link in peeled.links}
        levels = [level for level in peeled.levels if level.link.name in reach]
        return cls(peeled.links, {level.link.name: Known.of(level, dtype) for level in levels})

    def residuals(self, inputs: Tensor, active: Tensor) -> Tensor:
        """Residuals (P, n) at inputs (P, C, H, W) of the images numbered `active`."""
        rows = []
        for link in self.links:
            values = link.forward(inputs)
            if link.name in self.known:
                rows.append(self.known[link.name].of_images(active).residuals(values).flatten(1))
            inputs = link.activation(values)
        return torch.cat(rows, 1)

    def linearised(self, inputs: Tensor, active: Tensor) -> Linearisation:
        """The residuals and their Jacobian's products at inputs (P, C, H, W)."""
        rows, inside, outside = [], [], []
        for link in self.links:
            values = link.forward(inputs)
            weights = None
            if link.name in self.known:
                known = self.known[link.name].of_images(active)
                rows.append(known.residuals(values).flatten(1))
                weights = known.slopes(values)
            inputs = link.activation(values)
            inside.append(slope(link.activation, inputs))
            outside.append(weights)

        def push(direction: Tensor) -> Tensor:
            pushed = []
            for link, slopes, weights in zip(self.links, inside, outside, strict=True):
                direction = link.forward_linear(direction)
                if weights is not None:
                    pushed.append((weights * direction).flatten(1))
                direction = slopes * direction
            return torch.cat(pushed, 1)

        sizes = [weights[0].numel() for weights in outside if weights is not None]

        def pull(residuals: Tensor) -> Tensor:
            parts = list(torch.split(residuals, sizes, 1))
            arriving: Tensor | None = None
            for link, slopes, weights in zip(reversed(self.links), reversed(inside), reversed(outside), strict=True):
                here = None if arriving is None else slopes * arriving
                if weights is not None:
                    own = weights * parts.pop().view_as(weights)
                    here = own if here is None else here + own
                arriving = None if here is None else link.backward(here)
            assert arriving is not None, "the last link of the chain is known"
            return arriving

        return Linearisation(torch.cat(rows, 1), push, pull)
