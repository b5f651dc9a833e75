"""The registry entry of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

Shape = tuple[int, int, int]  # (C, H, W) of one image
Body = Callable[[Shape], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network by name: `body` maps an image shape (C, H, W) to the network below the last layer, features (B, D).

    `features` is the activation that produces the features, or comes last before pooling and flattening; None where it
    is no activation. The attacks derive the least feature value from it (`federated.activations`).
    `suited_attack` names the attack that comes closest where the network is too deep to be solved exactly.
    `uniform_init` is the half-width of the uniform distribution that all weights are drawn from; None keeps PyTorch's
    default.
    """

    title: str
    summary: str
    source: str
    body: Body
    features: nn.Module | None
    uniform_init: float | None = None
    suited_attack: str | None = None


def without_overwriting(net: nn.Module) -> nn.Module:
    """The same network with activations out of place: in place they overwrite what double backward still needs."""
    modules: Iterable[Any] = net.modules()
    for module in modules:
        if getattr(module, "inplace", False):
            module.inplace = False
    return net
