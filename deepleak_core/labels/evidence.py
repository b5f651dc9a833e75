"""What label inference reads from a client update, what it returns, and the rounding of real-valued counts.

For cross-entropy, the gradient of the last layer's bias is mean_k(p_k - y_k), probabilities minus one-hot labels. Its
negative times K is the label counts, up to K mean(p), which every strategy estimates or ignores in its own way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.func import functional_call

from deepleak_core.features.last_layer import LastLayer, rows_times
from deepleak_core.features.least_squares import never
from deepleak_core.federated.case import Case
from deepleak_core.federated.client import ClientUpdate, Weights, weights_of
from deepleak_core.federated.target_model import TargetModel

NOISE_IMAGES = 64  # of 32 x 32 pixels that the network is fed to learn what it predicts anyway; fewer of larger ones
LEAST_NOISE_IMAGES = 8
BISECTIONS = 60  # of the level in `round_counts`: float64 holds no finer one


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What label inference may use: a case and a seed.

    Strategies that search ask `stop` and end within `seconds` where that is not None; they then return their best
    answer so far.
    """

    case: Case
    seed: int = 0
    seconds: float | None = None
    stop: Callable[[], bool] = field(default=never)

    @property
    def model(self) -> TargetModel:
        """The target model as the server sent it."""
        return self.case.model

    @property
    def update(self) -> ClientUpdate:
        """What the client shared."""
        return self.case.update

    @cached_property
    def last_layer(self) -> LastLayer:
        """The last layer as the server sent it, and its mean gradient."""
        return LastLayer.of(self.model, self.case.gradient)

    @property
    def weight(self) -> Tensor:
        """Mean gradient of the last layer's weight (C, D), as the client computed it."""
        return self.last_layer.weight_gradient

    @cached_property
    def bias(self) -> Tensor | None:
        """Mean gradient of the last layer's bias (C,), in float64; None without a bias."""
        gradient = self.last_layer.bias_gradient
        return None if gradient is None else gradient.double()

    @property
    def batch_size(self) -> int:
        """Number of images K that the client reports."""
        return self.update.batch_size

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return len(self.weight)

    @property
    def row_sums(self) -> Tensor:
        """Sum of each class's row of the weight gradient (C,), mean_k((p_k - y_k) sum(f_k))."""
        return self.weight.sum(1, dtype=torch.float64)

    @cached_property
    def noise_response(self) -> tuple[Tensor, Tensor]:
        """Mean probabilities (C,) and mean features (D,) of the network over Gaussian noise images.

        For FedAvg averaged over the weights before and after local training.
        """
        moments = [self._noise_moments(weights_of(self.model))]
        if self.update.local is not None:
            moments.append(self._noise_moments(self.update.tensors))
        return torch.stack([p for p, _ in moments]).mean(0), torch.stack([f for _, f in moments]).mean(0)

    def _noise_moments(self, weights: Weights) -> tuple[Tensor, Tensor]:
        model, (channels, height, width) = self.model, self.case.image_shape
        generator = torch.Generator().manual_seed(self.seed)
        images = max(LEAST_NOISE_IMAGES, NOISE_IMAGES * 32**2 // (height * width))
        noise = torch.randn(images, channels, height, width, generator=generator)
        captured: list[Tensor] = []
        hook = model.head.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        try:
            with torch.no_grad():
                logits = functional_call(model, weights, (model.denormalise(noise.to(model.mean)),))
        finally:
            hook.remove()
        return logits.double().softmax(1).mean(0), captured[0].double().mean(0)

    @cached_property
    def bias_gradient(self) -> Tensor:
        """Mean gradient of the bias (C,), or an estimate of what it would be in a layer without one.

        With the noise's mean features o, the estimate is grad_W o / |o|^2: exact where all features are alike.
        """
        if self.bias is not None:
            return self.bias
        features = self.noise_response[1]
        return rows_times(self.weight, features[:, None])[:, 0] / features.square().sum()


@dataclass(frozen=True, kw_only=True)
class InferredLabels:
    """Label counts of a batch and what they were read from.

    `evidence` (C,) are the numbers a strategy looked at, `real_counts` (C,) its real-valued estimate, and `counts` (C,)
    integers that sum to the batch size. `certified` says that no other counts explain the update. `confidence` (C,) in
    [0, 1] is the estimated probability that a class's count is right, None where a strategy does not estimate it.
    `note` says in a sentence how the answer was found, and what seems wrong with the update.
    """

    evidence: Tensor
    real_counts: Tensor
    counts: Tensor
    certified: bool = False
    confidence: Tensor | None = None
    note: str = ""


def known_labels(labels: Tensor, classes: int) -> InferredLabels:
    """Labels (B,) that are known, in the form in which a strategy would return them.

    >>> known_labels(torch.tensor([2, 2, 0]), 4).counts.tolist()
    [1, 0, 2, 0]
    """
    counts = torch.bincount(labels.cpu(), minlength=classes)
    return InferredLabels(evidence=counts.double(), real_counts=counts.double(), counts=counts)


def labels_of(counts: Tensor) -> list[int]:
    """One label per image in ascending order, from counts (C,).

    >>> labels_of(torch.tensor([0, 2, 1]))
    [1, 1, 2]
    """
    return torch.repeat_interleave(torch.arange(len(counts)), counts.cpu()).tolist()


def round_counts(real_counts: Tensor, total: int) -> Tensor:
    """Integers (C,) that sum to `total`: take the largest remaining estimate `total` times (Geng et al. 2021).

    >>> round_counts(torch.tensor([1.6, 0.7, -0.3]), 2).tolist()
    [1, 1, 0]
    """
    # The rule fills up to a common level and never below it: all but ties is taken at once.
    real = real_counts.double().nan_to_num()  # infinities become the largest numbers
    real = (real - real.max()).clamp_min(-float(total) - 1)
    low, high = torch.tensor(-float(total) - 1).to(real), torch.tensor(0.0).to(real)
    for _ in range(BISECTIONS):
        level = (low + high) / 2
        taken = (real - level).ceil().clamp_min(0).sum()
        low, high = (low, level) if taken <= total else (level, high)
    counts = (real - high).ceil().clamp_min(0).long()
    remaining = real - counts
    for _ in range(total - int(counts.sum())):
        top = remaining.argmax()
        counts[top] += 1
        remaining[top] -= 1
    return counts
