"""One round of a federated client, and the update that the server receives.

FedSGD shares the mean gradient of the batch; FedAvg trains locally by plain SGD and shares the weights. Both are
functions of (weights, images, labels) without side effects, so that an attack can simulate the same round on candidate
images and differentiate through it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from deepleak_core.federated.target_model import TargetModel
from deepleak_core.scenario import LocalOrder, Mode

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """The public settings of FedAvg; the last mini-batch of an epoch may be smaller than the others.

    `momentum` is that of PyTorch's SGD, which starts from zero in each round. `order` says whether the server knows the
    order in which mini-batches go through the images (`scenario.LOCAL_ORDERS`).
    """

    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.0
    order: LocalOrder = "known"

    def slices(self, images: int) -> list[slice]:
        """The mini-batch of every local step, in order.

        >>> LocalTraining(epochs=1, batch_size=2, lr=0.1).slices(3)
        [slice(0, 2, None), slice(2, 3, None)]
        """
        steps = math.ceil(images / self.batch_size)
        ends = [(i * self.batch_size, min((i + 1) * self.batch_size, images)) for i in range(steps)]
        return [slice(*end) for end in ends] * self.epochs

    def ordered(self, labels: Tensor, *, seed: int) -> list[Tensor] | None:
        """In which order the client goes through its images in each epoch, None where no order matters.

        Class by class where the order is known, shuffled by a secret `seed` otherwise.
        """
        if self.batch_size >= len(labels):
            return None
        if self.order == "known":
            return [labels.argsort(stable=True)] * self.epochs
        generator = torch.Generator().manual_seed(seed)
        return [torch.randperm(len(labels), generator=generator).to(labels.device) for _ in range(self.epochs)]

    def assumed(self, images: int) -> LocalTraining:
        """What an attacker simulates, who has sorted the images by class.

        Without knowledge of the order, as many steps on the mean over all images: no order changes it, and it is what a
        random mini-batch gives on average.
        """
        if self.order == "known" or self.batch_size >= images:
            return self
        return replace(self, epochs=len(self.slices(images)), batch_size=images)

    def scale(self, images: int) -> float:
        """The change of weights over the mean gradient: the learning rate times the sum of all gradients' counts.

        >>> LocalTraining(epochs=3, batch_size=2, lr=0.5).scale(2)
        1.5
        """
        return self.lr * sum(counted(len(self.slices(images)), self.momentum))

    def midway(self, images: int) -> float:
        """How far the weights are on the way to their end, on average over the steps' gradients, from 0 to 1.

        >>> LocalTraining(epochs=5, batch_size=2, lr=0.1).midway(2)
        0.4
        """
        counts = counted(len(self.slices(images)), self.momentum)
        whole = sum(counts)
        before = [sum(counted(step, self.momentum)) / whole for step in range(len(counts))]
        return sum(count * place for count, place in zip(counts, before, strict=True)) / whole

    def shares(self, images: int) -> list[float]:
        """What each image counts in the change of weights; the sum is 1. Those of a short mini-batch count more.

        >>> LocalTraining(epochs=1, batch_size=2, lr=0.1).shares(3)
        [0.25, 0.25, 0.5]
        """
        slices, found = self.slices(images), [0.0] * images
        counts = counted(len(slices), self.momentum)
        for part, count in zip(slices, counts, strict=True):
            for image in range(part.start, part.stop):
                found[image] += count / sum(counts) / (part.stop - part.start)
        return found


def counted(steps: int, momentum: float) -> list[float]:
    """How often the gradient of each step is in the sum of all moves: those that momentum repeats count more.

    The move of step t is v_t = momentum v_(t-1) + g_t, so gradient j of T is counted 1 + momentum + ... +
    momentum^(T-1-j) times.

    >>> counted(3, 0.0), counted(3, 0.5)
    ([1.0, 1.0, 1.0], [1.75, 1.5, 1.0])
    """
    return list(accumulate((momentum**later for later in range(steps)), initial=0.0))[:0:-1]


@dataclass(frozen=True, kw_only=True)
class ClientUpdate:
    """Everything that the server receives.

    `tensors` has one entry for each parameter: the mean gradient (FedSGD, `local` is None) or the weights after local
    training (FedAvg). `batch_size` is reported because servers weight clients by it.
    """

    tensors: Weights
    batch_size: int
    local: LocalTraining | None = None

    @property
    def mode(self) -> Mode:
        """`fedavg` for weights after local training, `fedsgd` for a gradient."""
        return "fedavg" if self.local else "fedsgd"

    @property
    def local_steps(self) -> int:
        """Number of local SGD steps; 0 for FedSGD."""
        return len(self.local.slices(self.batch_size)) if self.local else 0

    def gradient(self, model: TargetModel) -> Weights:
        """The shared gradient, or its estimate from FedAvg weights, (W0 - W1) / (lr T) (Geng et al. 2021).

        With momentum, T is the sum of what each step's gradient counts.
        """
        if self.local is None:
            return self.tensors
        scale = self.local.scale(self.batch_size)
        before = weights_of(model)
        return {name: (before[name] - after) / scale for name, after in self.tensors.items()}


def weights_of(model: TargetModel) -> Weights:
    """The weights the server sent, detached."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def mean_gradient(
    model: TargetModel,
    weights: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    create_graph: bool = False,
) -> Weights:
    """Gradient of the mean cross-entropy at `weights`; with `create_graph`, differentiable in the images.

    `images` are (B, C, H, W) in [0, 1], `labels` (B,) int64 classes.
    """
    with torch.enable_grad():  # a caller may have switched gradients off
        points = {n: w if w.requires_grad else w.detach().requires_grad_() for n, w in weights.items()}
        loss = cross_entropy(functional_call(model, points, (images,)), labels)
        gradients = torch.autograd.grad(loss, list(points.values()), create_graph=create_graph)
    return dict(zip(points, gradients, strict=True))


def local_training(
    model: TargetModel,
    images: Tensor,
    labels: Tensor,
    local: LocalTraining,
    *,
    orders: Sequence[Tensor] | None = None,
    create_graph: bool = False,
) -> Weights:
    """The weights after the client's local SGD; with `create_graph`, differentiable in the images.

    `orders` (images,) of each epoch say how mini-batches go through the images; as they are if not given.
    """
    weights, move = weights_of(model), None
    slices = local.slices(len(images))
    for number, here in enumerate(slices):
        part = here if orders is None else orders[number * local.epochs // len(slices)][here]
        step = mean_gradient(model, weights, images[part], labels[part], create_graph=create_graph)
        move = step if move is None else {name: local.momentum * move[name] + g for name, g in step.items()}
        weights = {name: w - local.lr * move[name] for name, w in weights.items()}
    return weights


def share(
    model: TargetModel,
    images: Tensor,
    labels: Tensor,
    local: LocalTraining | None = None,
    *,
    orders: Sequence[Tensor] | None = None,
) -> ClientUpdate:
    """The client's round: from the private batch to the update; `orders` as in `local_training`.

    One local step over the whole batch is equivalent to FedSGD: the gradient is (W0 - W1) / lr.
    """
    if local is None:
        tensors = mean_gradient(model, weights_of(model), images, labels)
    else:
        tensors = local_training(model, images, labels, local, orders=orders)
    return ClientUpdate(tensors={n: t.detach() for n, t in tensors.items()}, batch_size=len(images), local=local)
