"""Inner products between a simulated update and the shared one, from which distances are computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepleak_core.federated.client import Weights


@dataclass(frozen=True)
class Comparison:
    """Inner products between a simulated update s and the shared one u, which every distance is computed from."""

    error: Tensor  # |s - u|^2
    inner: Tensor  # <s, u>
    simulated: Tensor  # |s|^2
    shared: Tensor  # |u|^2

    @classmethod
    def of(cls, simulated: Weights, shared: Weights) -> Comparison:
        """Compare two updates given by parameter name."""
        pairs = [(simulated[name], tensor) for name, tensor in shared.items()]
        return cls(
            error=torch.stack([(s - u).square().sum() for s, u in pairs]).sum(),
            inner=torch.stack([(s * u).sum() for s, u in pairs]).sum(),
            simulated=torch.stack([s.square().sum() for s, _ in pairs]).sum(),
            shared=torch.stack([u.square().sum() for _, u in pairs]).sum(),
        )

    def __add__(self, other: Comparison) -> Comparison:
        """Of two parts of an update, the comparison of both."""
        return Comparison(
            self.error + other.error,
            self.inner + other.inner,
            self.simulated + other.simulated,
            self.shared + other.shared,
        )

    @property
    def residual(self) -> Tensor:
        """|s - u|^2 / |u|^2."""
        return self.error / self.shared
