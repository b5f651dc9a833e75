"""A client's round as an attack simulates it: the last layer's gradient stays in factors.

A gradient of the last layer is signals^T [features, 1], with a row for each image. During local training the weights
after t steps differ from those the server sent by a sum of such products,

    W_t = W_0 - lr sum_j c_tj s_j^T f_j        (c_tj = 1 without momentum),

so logits f_t W_t^T and the signal to the body s_t W_t follow from thin matrices. The weights themselves, 1000 classes
times 16384 features at 64 pixels, are never formed, and neither is their part of the update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.functional import linear

from deepleak_core.federated.client import LocalTraining, Weights, counted, weights_of
from deepleak_core.federated.target_model import TargetModel

HEAD = "head."  # prefix of the last layer's parameters
BODY = "body."


@dataclass(frozen=True, kw_only=True)
class FactoredUpdate:
    """An update on the scale of a gradient: the `body`'s by parameter name, the last layer's in factors.

    `signals` (N, C) and `features` (N, D) have a row for each image and step.
    """

    body: Weights
    signals: Tensor
    features: Tensor

    def formed(self, *, bias: bool) -> Weights:
        """The same update with the last layer's gradient formed, by parameter name."""
        head = {f"{HEAD}weight": self.signals.T @ self.features}
        if bias:
            head[f"{HEAD}bias"] = self.signals.sum(0)
        return self.body | head

    def plus(self, other: FactoredUpdate, factor: float = 1.0) -> FactoredUpdate:
        """This update and `factor` times another one; the rows of both are kept."""
        return FactoredUpdate(
            body=_moved(self.body, other.body, factor),
            signals=torch.cat([self.signals, factor * other.signals]),
            features=torch.cat([self.features, other.features]),
        )

    def clone(self) -> FactoredUpdate:
        """A copy in memory of its own."""
        body = {name: tensor.clone() for name, tensor in self.body.items()}
        return FactoredUpdate(body=body, signals=self.signals.clone(), features=self.features.clone())

    def copy_(self, other: FactoredUpdate) -> None:
        """Take over the values of another update of the same shapes."""
        for name, tensor in other.body.items():
            self.body[name].copy_(tensor)
        self.signals.copy_(other.signals)
        self.features.copy_(other.features)


def factored_gradient(
    model: TargetModel,
    weights: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    shares: Tensor | None = None,
    create_graph: bool,
) -> FactoredUpdate:
    """The gradient of images (B, C, H, W) in [0, 1] and labels (B,) at `weights`.

    Of the mean cross-entropy, or of the sum weighted by `shares` (B,). Only the body's gradient is formed: the gradient
    of the loss at the features, delta W, is pulled back through it.
    """
    head = _Head(weights)
    with torch.enable_grad():
        found = _gradient(model, _body_of(weights), head, images, labels, shares, create_graph=create_graph)
    return replace(found, body={BODY + name: gradient for name, gradient in found.body.items()})


def simulated_round(
    model: TargetModel,
    images: Tensor,
    labels: Tensor,
    local: LocalTraining,
    *,
    create_graph: bool,
    recompute: bool = False,
) -> FactoredUpdate:
    """The mean gradient (W_0 - W_T) / scale of local training on images (B, C, H, W), see `LocalTraining.scale`.

    With `recompute`, each step is computed again when it is differentiated, and only what lies between steps is kept.
    """
    sent = weights_of(model)
    before = _body_of(sent)
    names = tuple(before)
    count = len(names)

    def step(part: slice, images: Tensor, *state: Tensor, create_graph: bool) -> tuple[Tensor, ...]:
        """From the body's weights, its last move and earlier factors to weights, move and factors of one more step."""
        weights, factors = dict(zip(names, state, strict=False)), state[2 * count :]
        earlier = len(factors) // 2
        head = _Head(sent, local, factors[:earlier], factors[earlier:])
        found = _gradient(model, weights, head, images, labels[part], None, create_graph=create_graph)
        moved = found.body
        if earlier:
            moved = _moved(moved, dict(zip(names, state[count : 2 * count], strict=True)), local.momentum)
        return (*_moved(weights, moved, -local.lr).values(), *moved.values(), found.signals, found.features)

    state = tuple(before.values())
    signals: tuple[Tensor, ...] = ()
    features: tuple[Tensor, ...] = ()
    with torch.enable_grad():
        for part in local.slices(len(images)):
            given = (images[part], *state, *signals, *features)
            if recompute and create_graph:
                *reached, own_signals, own_features = _Recomputed.apply(partial(step, part), *given)
            else:
                *reached, own_signals, own_features = step(part, *given, create_graph=create_graph)
            state, signals, features = tuple(reached), (*signals, own_signals), (*features, own_features)
        scale = local.scale(len(images))
        change, rows = _Head(sent, local, signals, features).change()
        body = {BODY + name: (before[name] - w) / scale for name, w in zip(names, state, strict=False)}
        return FactoredUpdate(body=body, signals=change * (local.lr / scale), features=rows)


class _Recomputed(torch.autograd.Function):
    """A step that is computed without a graph, and again with one when it is differentiated."""

    @staticmethod
    def forward(ctx: Any, step: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.step = step
        ctx.save_for_backward(*tensors)
        with torch.enable_grad():
            results = step(*(t.detach() for t in tensors), create_graph=False)
        return tuple(t.detach().clone() for t in results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *arriving: Tensor) -> tuple[Tensor | None, ...]:
        tensors = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        with torch.enable_grad():
            results = ctx.step(*tensors, create_graph=True)
            gradients = torch.autograd.grad(results, tensors, arriving, allow_unused=True)
        return (None, *gradients)


@dataclass(kw_only=True)
class CorrectedGradient:
    """A FedAvg update as one gradient, corrected for what local steps add to it (deferred correction).

    The gradient is that at the weights midway between those sent and those returned, which are both known. The
    correction of a candidate batch is the difference between its simulated round and this gradient. It changes slowly,
    so it is renewed now and then; an iteration costs what a single gradient does.
    """

    model: TargetModel
    labels: Tensor
    local: LocalTraining
    midway: Weights
    shares: Tensor
    corrections: list[FactoredUpdate]

    @classmethod
    def of(cls, model: TargetModel, labels: Tensor, local: LocalTraining, after: Weights) -> CorrectedGradient:
        """Without a correction so far; `after` are the weights that were returned."""
        place, before = local.midway(len(labels)), weights_of(model)
        midway = {name: torch.lerp(before[name], w.to(before[name]), place) for name, w in after.items()}
        shares = torch.tensor(local.shares(len(labels))).to(model.mean)
        return cls(model=model, labels=labels, local=local, midway=midway, shares=shares, corrections=[])

    @cached_property
    def midway_model(self) -> TargetModel:
        """The target model with the weights midway."""
        model = deepcopy(self.model)
        model.load_state_dict(self.midway, strict=False)
        return model

    @property
    def one_batch(self) -> bool:
        """Whether every local step sees the whole batch."""
        return self.local.batch_size >= len(self.labels)

    def renew(self, batches: Tensor) -> None:
        """Correct for the local steps on batches (R, B, C, H, W) in [0, 1], in place."""
        for place, images in enumerate(batches):
            simulated = simulated_round(self.model, images, self.labels, self.local, create_graph=False)
            correction = simulated.plus(self._midway(images, create_graph=False), -1.0)
            if place < len(self.corrections):
                self.corrections[place].copy_(correction)
            else:
                self.corrections.append(correction)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Put the corrections back after a block that renews them for other batches."""
        before = [correction.clone() for correction in self.corrections]
        try:
            yield
        finally:
            del self.corrections[len(before) :]
            for correction, earlier in zip(self.corrections, before, strict=True):
                correction.copy_(earlier)

    def of_batch(self, place: int, images: Tensor, *, create_graph: bool) -> FactoredUpdate:
        """The corrected gradient of batch number `place`, images (B, C, H, W) in [0, 1]."""
        found = self._midway(images, create_graph=create_graph)
        return found.plus(self.corrections[place]) if place < len(self.corrections) else found

    def remainder(self, place: int, target: Weights) -> Weights:
        """What the shared update `target` leaves for the gradient midway, by parameter name."""
        correction = self.corrections[place].formed(bias=f"{HEAD}bias" in target)
        return {name: tensor - correction[name] for name, tensor in target.items()}

    def _midway(self, images: Tensor, *, create_graph: bool) -> FactoredUpdate:
        return factored_gradient(
            self.model, self.midway, images, self.labels, shares=self.shares, create_graph=create_graph
        )


@dataclass(frozen=True)
class _Head:
    """The last layer during local training: the weights that were sent, and the factors of each step so far."""

    sent: Mapping[str, Tensor]
    local: LocalTraining | None = None
    signals: tuple[Tensor, ...] = ()
    features: tuple[Tensor, ...] = ()

    @property
    def weight(self) -> Tensor:
        """Weights (C, D) as sent."""
        return self.sent[f"{HEAD}weight"]

    @property
    def bias(self) -> Tensor | None:
        """Bias (C,) as sent, None without one."""
        return self.sent.get(f"{HEAD}bias")

    def change(self) -> tuple[Tensor, Tensor]:
        """Factors (N, C) and (N, D) of (W_0 - W_t) / lr."""
        assert self.local is not None, "there are no steps without local training"
        counts = counted(len(self.signals), self.local.momentum)
        weighted = [count * signals for count, signals in zip(counts, self.signals, strict=True)]
        return torch.cat(weighted), torch.cat(self.features)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, C) of features (B, D)."""
        logits = linear(features, self.weight, self.bias)
        if self.local is None or not self.signals:
            return logits
        signals, earlier = self.change()
        products = features @ earlier.T
        if self.bias is not None:
            products = products + 1
        return logits - self.local.lr * products @ signals

    def arriving(self, signals: Tensor) -> Tensor:
        """The gradient (B, D) of the loss at the features, from signals (B, C) at the logits."""
        arriving = signals @ self.weight
        if self.local is None or not self.signals:
            return arriving
        earlier, features = self.change()
        return arriving - self.local.lr * (signals @ earlier.T) @ features


def _gradient(
    model: TargetModel,
    body: Weights,
    head: _Head,
    images: Tensor,
    labels: Tensor,
    shares: Tensor | None,
    *,
    create_graph: bool,
) -> FactoredUpdate:
    points = {name: w if w.requires_grad else w.detach().requires_grad_() for name, w in body.items()}
    features = functional_call(model.body, points, (model.normalise(images),))
    logits = head.logits(features)
    classes = torch.arange(logits.shape[1], device=labels.device)
    signals = logits.softmax(1) - (labels[:, None] == classes).to(logits)
    signals = signals / len(images) if shares is None else signals * shares[:, None]
    gradients = torch.autograd.grad(features, list(points.values()), head.arriving(signals), create_graph=create_graph)
    named = dict(zip(points, gradients, strict=True))
    if not create_graph:
        signals, features = signals.detach(), features.detach()
    return FactoredUpdate(body=named, signals=signals, features=features)


def _body_of(weights: Mapping[str, Tensor]) -> Weights:
    """The body's weights by their names within the body."""
    return {name.removeprefix(BODY): w for name, w in weights.items() if name.startswith(BODY)}


def _moved(weights: Weights, direction: Weights, length: float) -> Weights:
    return {name: w + length * direction[name] for name, w in weights.items()}
