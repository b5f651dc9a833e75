"""The objective of gradient matching: the distance between a simulated and the shared update, plus image priors.

`Matching` is the whole objective as a function of candidate images as the first layer sees them (normalised),
(R, B, C, H, W) for R restarts. To add a distance, write a function of a `Comparison` and add one entry to `DISTANCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deepleak_core.attack.comparison import Comparison
from deepleak_core.attack.factored import SharedHead, compare_factored
from deepleak_core.attack.memory import Needed
from deepleak_core.attack.prior import Term
from deepleak_core.attack.rounds import CorrectedGradient, FactoredUpdate, factored_gradient, simulated_round
from deepleak_core.events import Stage
from deepleak_core.federated.case import Case
from deepleak_core.federated.client import LocalTraining, Weights, local_training, mean_gradient, weights_of
from deepleak_core.scenario import FedAvgMethod

# ------------------------------------------------------------------------------------------------ distances


def squared_l2(c: Comparison) -> Tensor:
    """|s - u|^2 / |u|^2 (Zhu et al. 2019), relative so that weights of priors mean the same for any model."""
    return c.residual


def cosine(c: Comparison) -> Tensor:
    """1 - <s, u> / (|s| |u|) (Geiping et al. 2020)."""
    return 1 - c.inner / (c.simulated * c.shared).sqrt()


DISTANCES: dict[str, Callable[[Comparison], Tensor]] = {"squared-l2": squared_l2, "cosine": cosine}


# ------------------------------------------------------------------------------------------------ the objective

RENEWED = 5  # iterations after which a corrected reading simulates the local steps again
SIMULATED = ("simulated", "corrected")  # readings of FedAvg whose residual is that of simulated local steps


@dataclass(frozen=True)
class Value:
    """The objective at one point: `loss` to minimise, and per restart the squared relative `residuals` (R,)."""

    loss: Tensor
    residuals: Tensor


@dataclass(kw_only=True)
class Matching:
    """The objective of one attack: call it with inputs (R, B, C, H, W) to get a `Value`.

    `labels` (B,) are the believed ones; `priors` are terms with their weights; `features` (B, D), in the order of
    `labels`, are those that feature separation found; `fedavg` says how a FedAvg update is read, see
    `scenario.FEDAVG_METHODS`; `restarts` is the R of the inputs, from which the memory of an iteration is estimated.
    """

    case: Case
    labels: Tensor
    distance: str
    priors: Sequence[tuple[float, Term]] = ()
    features: Tensor | None = None
    feature_weight: float = 0.0
    fedavg: FedAvgMethod = "averaged"
    restarts: int = 1
    target: Weights = field(init=False)
    before: Weights = field(init=False)
    mixing: Tensor | None = field(init=False, default=None)
    head: SharedHead | None = field(init=False, default=None)
    corrected: CorrectedGradient | None = field(init=False, default=None)
    recomputes: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.before = weights_of(self.case.model)
        self.target = self.case.gradient
        self.head = SharedHead.of(self.case)
        if self.case.update.local is not None and self.fedavg == "surrogate":
            self.mixing = torch.full((), 0.5, device=self.labels.device, requires_grad=True)
        if self.local is not None and self.fedavg == "corrected":
            self.corrected = CorrectedGradient.of(self.case.model, self.labels, self.local, self.case.update.tensors)
        if self.local is not None and self.fedavg == "simulated":
            need = Needed.of(
                self.case.model,
                self.case.image_shape,
                len(self.labels),
                restarts=self.restarts,
                local=self.local,
                fedavg=self.fedavg,
            )
            self.recomputes = need.recomputes(self.case.device)

    @property
    def remark(self) -> Stage | None:
        """What the run should say about how the objective is computed, None where nothing is special."""
        if not self.recomputes:
            return None
        return Stage(
            name="Local steps computed twice",
            sentence="Differentiating through all local steps at once would take more than half of the free memory. "
            "The backward pass computes each step again, which is slower.",
            remark=True,
        )

    @property
    def local(self) -> LocalTraining | None:
        """The local training that is simulated, None for FedSGD."""
        local = self.case.update.local
        return local and local.assumed(len(self.labels))

    def compare(self, inputs: Tensor, *, create_graph: bool = True) -> Comparison:
        """The update that these inputs (B, C, H, W) would have given against the shared one."""
        if self.head is None and not (self.recomputes and create_graph):
            return Comparison.of(self.simulate(inputs, create_graph=create_graph), self.target)
        return self._compared(self._factored(inputs, create_graph=create_graph))

    def _compared(self, update: FactoredUpdate) -> Comparison:
        if self.head is None:
            return Comparison.of(update.formed(bias="head.bias" in self.target), self.target)
        return compare_factored(self.head, update, self.target)

    def renew(self, inputs: Tensor, step: int) -> bool:
        """Renew what the objective keeps of the inputs (R, B, C, H, W); True where its value there has changed.

        Solvers call this before each iteration. Only a corrected reading of FedAvg keeps something.
        """
        if self.corrected is None or step % RENEWED:
            return False
        self.corrected.renew(self.case.model.denormalise(inputs.detach()))
        return True

    def kept(self) -> AbstractContextManager[None]:
        """Put what `renew` has renewed back after a block that evaluates the objective elsewhere."""
        return nullcontext() if self.corrected is None else self.corrected.kept()

    def _candidate(self, place: int, inputs: Tensor) -> Comparison:
        """The comparison of restart number `place`, differentiable."""
        if self.corrected is None:
            return self.compare(inputs)
        return self._compared(self.corrected.of_batch(place, self.case.model.denormalise(inputs), create_graph=True))

    def residual(self, inputs: Tensor) -> float:
        """Squared relative distance of the update of these inputs (B, C, H, W) from the shared one."""
        return float(self.compare(inputs, create_graph=False).residual.detach())

    def simulate(self, inputs: Tensor, *, create_graph: bool = True) -> Weights:
        """The update that these inputs (B, C, H, W) would have given, on the scale of a gradient, by autograd."""
        model, local = self.case.model, self.local
        images = model.denormalise(inputs)
        if local is None or self.fedavg not in SIMULATED:
            return mean_gradient(model, self._point(), images, self.labels, create_graph=create_graph)
        trained = local_training(model, images, self.labels, local, create_graph=create_graph)
        scale = local.scale(len(images))
        return {name: (self.before[name] - w) / scale for name, w in trained.items()}

    def _factored(self, inputs: Tensor, *, create_graph: bool) -> FactoredUpdate:
        """What `simulate` returns, with the last layer in factors."""
        model, local = self.case.model, self.local
        images = model.denormalise(inputs)
        if local is None or self.fedavg not in SIMULATED:
            return factored_gradient(model, self._point(), images, self.labels, create_graph=create_graph)
        return simulated_round(model, images, self.labels, local, create_graph=create_graph, recompute=self.recomputes)

    def _point(self) -> Weights:
        """The weights at which the update is read as a gradient."""
        if self.mixing is None:
            return self.before
        after = self.case.update.tensors
        return {n: w + self.mixing.clamp(0, 1) * (after[n] - w) for n, w in self.before.items()}

    def __call__(self, inputs: Tensor) -> Value:
        """The objective at inputs (R, B, C, H, W)."""
        comparisons = [self._candidate(place, candidate) for place, candidate in enumerate(inputs)]
        loss = torch.stack([DISTANCES[self.distance](c) for c in comparisons]).sum()
        for weight, term in self.priors:
            loss = loss + weight * term(inputs)
        if self.features is not None:
            loss = loss + self.feature_weight * self.feature_distance(inputs)
        residuals = torch.stack([c.residual.detach() for c in comparisons])
        return Value(loss, residuals)

    def feature_distance(self, inputs: Tensor) -> Tensor:
        """Mean over images of |f(x_k) - f_k|^2 / |f_k|^2 with the separated features f_k, summed over restarts."""
        assert self.features is not None
        sizes = self.features.square().sum(1)
        distances = [(self.case.model.body(i) - self.features).square().sum(1) / sizes for i in inputs]
        return torch.stack([distance.mean() for distance in distances]).sum()

    def parameters(self) -> list[Tensor]:
        """Unknowns other than the inputs: the surrogate's point between the weights before and after."""
        return [] if self.mixing is None else [self.mixing]
