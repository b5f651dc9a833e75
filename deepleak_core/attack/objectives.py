"""What an attack minimises: the distance between a simulated and the shared update, plus image priors.

`Matching` is the whole objective as a function of the candidate inputs; `DISTANCES` and the priors are its
parts. Inputs are candidate images as the first layer sees them (normalised), (R, B, 3, H, W) for R restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deepleak_core.federated.client import ClientUpdate, Weights, local_training, mean_gradient, weights_of
from deepleak_core.federated.models import TargetModel
from deepleak_core.scenario import FedAvgMethod

# ------------------------------------------------------------------------------------------------ distances


@dataclass(frozen=True)
class Comparison:
    """Inner products between a simulated update s and the shared one u, all distances' raw material."""

    error: Tensor  # |s - u|^2
    inner: Tensor  # <s, u>
    simulated: Tensor  # |s|^2
    shared: Tensor  # |u|^2

    @classmethod
    def of(cls, simulated: Weights, shared: Weights) -> Comparison:
        pairs = [(simulated[name], tensor) for name, tensor in shared.items()]
        return cls(
            error=torch.stack([(s - u).square().sum() for s, u in pairs]).sum(),
            inner=torch.stack([(s * u).sum() for s, u in pairs]).sum(),
            simulated=torch.stack([s.square().sum() for s, _ in pairs]).sum(),
            shared=torch.stack([u.square().sum() for _, u in pairs]).sum(),
        )


def squared_l2(c: Comparison) -> Tensor:
    """|s - u|^2 / |u|^2 (Zhu et al. 2019), relative so that weights of priors mean the same for any model."""
    return c.error / c.shared


def cosine(c: Comparison) -> Tensor:
    """1 - <s, u> / (|s| |u|) (Geiping et al. 2020)."""
    return 1 - c.inner / (c.simulated * c.shared).sqrt()


DISTANCES: dict[str, Callable[[Comparison], Tensor]] = {"squared-l2": squared_l2, "cosine": cosine}

# --------------------------------------------------------------------------------------------------- priors


def total_variation(inputs: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, both directions; (..., H, W) to a scalar."""
    return inputs.diff(dim=-1).abs().mean() + inputs.diff(dim=-2).abs().mean()


def group_consistency(inputs: Tensor) -> Tensor:
    """Squared distance of each restart from the mean of all (Yin et al. 2021, without registration)."""
    return (inputs - inputs.mean(0, keepdim=True)).square().mean()


def feature_distance(features: Tensor, target: Tensor) -> Tensor:
    """Mean over images of |f(x_k) - f_k|^2 / |f_k|^2: images must give the features taken from the last layer."""
    return ((features - target).square().sum(1) / target.square().sum(1)).mean()


class BatchNormPrior:
    """Distance of the candidate's BatchNorm inputs from the statistics the model was trained with (Yin et al.).

    Counts only what the server knows: the running statistics inside the weights it sent.
    """

    def __init__(self, model: TargetModel):
        self.terms: list[Tensor] = []
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_pre_hook(self._measure)

    def _measure(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        assert module.running_mean is not None and module.running_var is not None
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        self.terms.append((mean - module.running_mean).norm() + (variance - module.running_var).norm())

    def collect(self) -> Tensor | float:
        """The summed terms of all forward passes since the last call."""
        total = torch.stack(self.terms).sum() if self.terms else 0.0
        self.terms = []
        return total


# ------------------------------------------------------------------------------------------------ the whole


@dataclass(frozen=True)
class Value:
    """The objective at one point: `loss` to minimise, and per restart the squared relative `residuals` (R,)."""

    loss: Tensor
    residuals: Tensor


@dataclass(kw_only=True)
class Matching:
    """The objective of one attack: call it with inputs (R, B, 3, H, W) to get a `Value`.

    `labels` (B,) is what the attacker believes; `features` (B, D), where disaggregation found them, come in the
    same order; `fedavg` says how a FedAvg update is read, see
    `scenario.FEDAVG_METHODS`. Everything it needs is public or was shared: it never sees the private batch.
    """

    model: TargetModel
    update: ClientUpdate
    labels: Tensor
    distance: str
    total_variation: float = 0.0
    l2: float = 0.0
    group_consistency: float = 0.0
    batchnorm: BatchNormPrior | None = None
    batchnorm_weight: float = 0.0
    features: Tensor | None = None
    feature_weight: float = 0.0
    fedavg: FedAvgMethod = "averaged"
    target: Weights = field(init=False)
    before: Weights = field(init=False)
    mixing: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.before = weights_of(self.model)
        self.target = self.update.gradient(self.model)
        if self.update.local is not None and self.fedavg == "surrogate":
            self.mixing = torch.full((), 0.5, device=self.labels.device, requires_grad=True)

    def simulate(self, inputs: Tensor) -> Weights:
        """The update these inputs (B, 3, H, W) would have given, on the scale of a gradient."""
        images, local = self.model.denormalise(inputs), self.update.local
        if local is None or self.fedavg == "averaged":
            return mean_gradient(self.model, self.before, images, self.labels, create_graph=True)
        if self.mixing is not None:
            after = self.update.tensors
            point = {n: w + self.mixing.clamp(0, 1) * (after[n] - w) for n, w in self.before.items()}
            return mean_gradient(self.model, point, images, self.labels, create_graph=True)
        trained = local_training(self.model, images, self.labels, local, create_graph=True)
        scale = local.lr * self.update.local_steps
        return {name: (self.before[name] - w) / scale for name, w in trained.items()}

    def __call__(self, inputs: Tensor) -> Value:
        comparisons = [Comparison.of(self.simulate(candidate), self.target) for candidate in inputs]
        loss = torch.stack([DISTANCES[self.distance](c) for c in comparisons]).sum()
        if self.total_variation:
            loss = loss + self.total_variation * torch.stack([total_variation(i) for i in inputs]).sum()
        if self.l2:
            loss = loss + self.l2 * inputs.square().mean()
        if self.group_consistency and len(inputs) > 1:
            loss = loss + self.group_consistency * group_consistency(inputs)
        if self.features is not None:
            terms = [feature_distance(self.model.body(candidate), self.features) for candidate in inputs]
            loss = loss + self.feature_weight * torch.stack(terms).sum()
        if self.batchnorm is not None:
            loss = loss + self.batchnorm_weight * self.batchnorm.collect()
        residuals = torch.stack([(c.error / c.shared).detach() for c in comparisons])
        return Value(loss, residuals)

    def parameters(self) -> list[Tensor]:
        """What is optimised beside the inputs: the surrogate's place between the weights."""
        return [] if self.mixing is None else [self.mixing]
