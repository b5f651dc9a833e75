"""Compare gradients of a large last layer in factored form, without forming the simulated one.

With signals delta (B, C), features f (B, D) and [f, 1] for a layer with a bias, the simulated gradient is
s = delta^T [f, 1], and the shared one is u = Q R with orthonormal Q (C, K) (`features.factors`). Let A = Q^T delta^T be
the part of the signals in the span of Q, and P = delta^T - Q A the rest. Then

    |s - u|^2 = |A [f, 1] - R|^2 + sum((P^T P) * ([f, 1] [f, 1]^T)),      <s, u> = sum((A [f, 1]) * R),
    |s|^2     = sum((delta delta^T) * ([f, 1] [f, 1]^T)).

Differences are formed before they are squared, so nothing cancels near the solution. All products are of thin
matrices: a layer of 1000 classes and 16384 features costs less than a tenth of what forming its gradient does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from deepleak_core.attack.comparison import Comparison
from deepleak_core.attack.rounds import BODY, FactoredUpdate
from deepleak_core.errors import CannotSeparate
from deepleak_core.features.factors import factors_of, truncated_svd
from deepleak_core.features.last_layer import LastLayer, summed_gradient
from deepleak_core.federated.case import Case
from deepleak_core.federated.client import Weights

LARGE = 500_000  # entries of a last layer from which factors are faster than its gradient
THIN = 4  # rows of a change of weights for each row of its factors, at least


@dataclass(frozen=True, kw_only=True)
class SharedHead:
    """The shared gradient of the last layer as `q` (C, K) times `r` (K, D), or (K, D + 1) with a bias.

    `rest` is the squared norm of what the factors leave, rounding noise.
    """

    q: Tensor
    r: Tensor
    rest: float

    @classmethod
    def of(cls, case: Case) -> SharedHead | None:
        """The factors of a case that shares the gradient of a large last layer; None for others.

        Several local steps (FedAvg) leave a sum of more products than there are images: one for each image and epoch.
        """
        if case.model.head.weight.numel() < LARGE:
            return None
        try:
            left, rest = _of_one_step(case) if case.update.local is None else _of_a_round(case)
        except CannotSeparate:
            return None
        q = left.to(case.model.mean)
        gradient = case.gradient["head.weight"]
        r = q.T @ gradient
        if (bias := case.gradient.get("head.bias")) is not None:
            r = torch.cat([r, (q.T @ bias)[:, None]], 1)
        return cls(q=q, r=r, rest=rest)

    def compare(self, signals: Tensor, features: Tensor) -> Comparison:
        """Compare with the gradient of signals (B, C), those of the mean loss, and features (B, D)."""
        features = pad(features, (0, self.r.shape[1] - features.shape[1]), value=1.0)
        inside = self.q.T @ signals.T
        outside = signals.T - self.q @ inside
        projected, grams = inside @ features, features @ features.T
        return Comparison(
            error=(projected - self.r).square().sum() + ((outside.T @ outside) * grams).sum() + self.rest,
            inner=(projected * self.r).sum(),
            simulated=((signals @ signals.T) * grams).sum(),
            shared=self.r.square().sum() + self.rest,
        )


def _of_one_step(case: Case) -> tuple[Tensor, float]:
    """Orthonormal columns (C, K) that span the shared gradient, and the squared norm of what they leave."""
    factors = factors_of(case)
    return factors.left, (factors.left_out / factors.images) ** 2


def _of_a_round(case: Case) -> tuple[Tensor, float]:
    """The same for a change of weights, of rank K times the epochs. Raises `CannotSeparate` where that is too much.

    A change of weights is rounded like the weights, so its noise is not small against faint images: rows are not scaled
    to equal length here.
    """
    assert case.update.local is not None, "this is for FedAvg"
    rank = case.update.batch_size * case.update.local.epochs
    if THIN * rank > min(case.model.head.weight.shape):
        raise CannotSeparate(f"A change of weights of rank {rank} is not thin.")
    u, _, _, rest = truncated_svd(summed_gradient(LastLayer.of(case.model, case.gradient), 1), rank)
    return u, float(rest.square().sum())


def compare_factored(head: SharedHead, simulated: FactoredUpdate, shared: Weights) -> Comparison:
    """Compare a simulated update with the shared one, `head` for the last layer and `shared` for all others."""
    return head.compare(simulated.signals, simulated.features) + Comparison.of(
        simulated.body, {name: tensor for name, tensor in shared.items() if name.startswith(BODY)}
    )
