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
from torch.func import functional_call
from torch.nn.functional import linear, pad

from deepleak_core.attack.comparison import Comparison
from deepleak_core.errors import CannotSeparate
from deepleak_core.features.factors import factors_of
from deepleak_core.federated.case import Case
from deepleak_core.federated.client import Weights, weights_of
from deepleak_core.federated.target_model import TargetModel

LARGE = 500_000  # entries of a last layer from which factors are faster than its gradient
HEAD = "head."  # prefix of the last layer's parameters
BODY = "body."


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

        A change of weights (FedAvg) is rounded like the weights, so its noise is not small against faint images, and
        factors in which rows count alike would lose them.
        """
        if case.model.head.weight.numel() < LARGE or case.update.local is not None:
            return None
        try:
            factors = factors_of(case)
        except CannotSeparate:
            return None
        q = factors.left.to(case.model.mean)
        gradient = case.gradient["head.weight"]
        r = q.T @ gradient
        if (bias := case.gradient.get("head.bias")) is not None:
            r = torch.cat([r, (q.T @ bias)[:, None]], 1)
        return cls(q=q, r=r, rest=(factors.left_out / factors.images) ** 2)

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


def compare_factored(
    model: TargetModel, head: SharedHead, shared: Weights, images: Tensor, labels: Tensor, *, create_graph: bool
) -> Comparison:
    """Compare the gradient of images (B, C, H, W) in [0, 1] and labels (B,) with the shared mean gradient.

    Only the body's gradient is formed: the gradient of the loss at the features, delta W, is pulled back through it.
    """
    weights = weights_of(model)
    body = {name.removeprefix(BODY): w.requires_grad_() for name, w in weights.items() if name.startswith(BODY)}
    with torch.enable_grad():
        features = functional_call(model.body, body, (model.normalise(images),))
        logits = linear(features, weights["head.weight"], weights.get("head.bias"))
        classes = torch.arange(logits.shape[1], device=labels.device)
        signals = (logits.softmax(1) - (labels[:, None] == classes).to(logits)) / len(images)
        arriving = signals @ weights["head.weight"]
        gradients = torch.autograd.grad(features, list(body.values()), arriving, create_graph=create_graph)
        return head.compare(signals, features) + Comparison.of(
            {BODY + name: gradient for name, gradient in zip(body, gradients, strict=True)},
            {name: tensor for name, tensor in shared.items() if name.startswith(BODY)},
        )
