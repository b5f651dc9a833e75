"""What the attacks know about activation functions: slope, inverse, floor and smoothness, in one table.

To support another activation, add one entry to `ACTIVATIONS`. A network with an activation that is not in the table
still works: feature separation then knows no floor, and layers are not peeled off, which the attack says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NEAR_ONE = 1e-7  # distance that keeps logarithms of saturated float32 values finite
NOISE_FACTOR = 5.0  # a rectified value counts as positive above this many times the deepest negative value (noise)
LEAST_POSITIVE = 1e-6  # or above this share of the largest value


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An element-wise activation y = a(x), described by functions of its module and its outputs y.

    `slope(module, y)` is a'(x). `inverse(module, y)` gives x and a mask, 1 where x is known and 0 where it is at most
    zero; None where the activation has no inverse. `floor(module)` is a value that no output is below, None without
    one. `smooth` says that there are no kinks, and that outputs approach the floor without lying on it.
    """

    slope: Callable[[Any, Tensor], Tensor]
    inverse: Callable[[Any, Tensor], tuple[Tensor, Tensor]] | None
    floor: Callable[[Any], float | None]
    smooth: bool


def _known(pre_activations: Tensor) -> tuple[Tensor, Tensor]:
    return pre_activations, torch.ones_like(pre_activations)


def _relu_slope(module: nn.Module, y: Tensor) -> Tensor:
    """1 where an output is surely positive: noise shows as the depth of negative values in recovered outputs."""
    flat = y.flatten(1)
    doubt = torch.maximum(-NOISE_FACTOR * flat.amin(1), LEAST_POSITIVE * flat.amax(1))
    return (y > doubt.view(-1, *[1] * (y.dim() - 1))).to(y.dtype)


def _relu_inverse(module: nn.ReLU, y: Tensor) -> tuple[Tensor, Tensor]:
    known = _relu_slope(module, y)
    return y * known, known


def _elu_inverse(module: nn.ELU, y: Tensor) -> tuple[Tensor, Tensor]:
    below = (y / module.alpha).clamp(-1 + NEAR_ONE, 0)
    return _known(torch.where(y > 0, y, torch.log1p(below)))


def _leaky_inverse(module: nn.LeakyReLU, y: Tensor) -> tuple[Tensor, Tensor]:
    return _known(torch.where(y > 0, y, y / module.negative_slope))


def _softplus_inverse(module: nn.Softplus, y: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse x = y + log(1 - exp(-beta y)) / beta, which large outputs do not overflow."""
    scaled = (module.beta * y).clamp_min(NEAR_ONE)
    return _known((scaled + torch.log(-torch.expm1(-scaled))) / module.beta)


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.ReLU: Activation(slope=_relu_slope, inverse=_relu_inverse, floor=lambda module: 0.0, smooth=False),
    nn.ReLU6: Activation(
        slope=lambda module, y: _relu_slope(module, y) * (y < module.max_val),
        inverse=None,  # an output of 6 says only that its input is at least that
        floor=lambda module: 0.0,
        smooth=False,
    ),
    nn.ELU: Activation(
        slope=lambda module, y: torch.where(y > 0, 1.0, y + module.alpha),
        inverse=_elu_inverse,
        floor=lambda module: -float(module.alpha),
        smooth=True,
    ),
    nn.Sigmoid: Activation(
        slope=lambda module, y: y * (1 - y),
        inverse=lambda module, y: _known(torch.logit(y.clamp(NEAR_ONE, 1 - NEAR_ONE))),
        floor=lambda module: 0.0,
        smooth=True,
    ),
    nn.Tanh: Activation(
        slope=lambda module, y: 1 - y.square(),
        inverse=lambda module, y: _known(torch.atanh(y.clamp(-1 + NEAR_ONE, 1 - NEAR_ONE))),
        floor=lambda module: -1.0,
        smooth=True,
    ),
    nn.Softplus: Activation(
        slope=lambda module, y: 1 - torch.exp(-module.beta * y),
        inverse=_softplus_inverse,
        floor=lambda module: 0.0,
        smooth=True,
    ),
    nn.LeakyReLU: Activation(
        slope=lambda module, y: torch.where(y > 0, 1.0, module.negative_slope).to(y),
        inverse=_leaky_inverse,
        floor=lambda module: None,
        smooth=False,
    ),
}


def activation_of(module: nn.Module) -> Activation | None:
    """The table's entry for a module, None where it is no activation that the table knows."""
    return ACTIVATIONS.get(type(module))


def known_activations(*, invertible: bool = False) -> str:
    """Names of the activations in the table, or of those with an inverse, for messages."""
    return ", ".join(kind.__name__ for kind, entry in ACTIVATIONS.items() if entry.inverse or not invertible)


def has_kinks(model: nn.Module) -> bool:
    """Whether a network is not differentiable everywhere: max-pooling, or an activation with kinks."""
    kinked = [entry for module in model.modules() if (entry := activation_of(module)) and not entry.smooth]
    return bool(kinked) or any(isinstance(module, nn.MaxPool2d) for module in model.modules())
