"""The target model: a classifier as a body and one linear last layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepleak_core.federated.class_statistics import ClassStatistics
from deepleak_core.federated.networks.network import Shape


class TargetModel(nn.Module):
    """A classifier as body and head. `forward` maps images (B, C, H, W) in [0, 1] to logits (B, classes).

    `floor` is the least value of a feature, None where there is none; `smooth` says that features approach it without
    lying on it, as after ELU and sigmoid (`federated.activations`). `class_statistics` holds the mean predictions
    for each class, None before training.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        head: nn.Linear,
        mean: Sequence[float],
        std: Sequence[float],
        floor: float | None = None,
        *,
        smooth: bool = False,
    ):
        super().__init__()
        self.body, self.head, self.floor, self.smooth = body, head, floor, smooth
        self.class_statistics: ClassStatistics | None = None
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """[0, 1] to inputs of the first layer: zero mean and unit variance over the data set."""
        return (images - self.mean) / self.std

    def denormalise(self, inputs: Tensor) -> Tensor:
        """Inputs of the first layer back to [0, 1]."""
        return inputs * self.std + self.mean

    @property
    def low(self) -> Tensor:
        """The darkest pixel as the first layer sees it, (1, C, 1, 1)."""
        return self.normalise(torch.zeros_like(self.mean))

    @property
    def high(self) -> Tensor:
        """The brightest pixel as the first layer sees it, (1, C, 1, 1)."""
        return self.normalise(torch.ones_like(self.mean))

    def features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the features that the last layer reads, (B, D)."""
        features: Tensor = self.body(self.normalise(images))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Maps images (B, C, H, W) in [0, 1] to logits (B, classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def feature_dimension(body: nn.Module, shape: Shape) -> int:
    """Length of the feature vector that a body gives for one image (C, H, W)."""
    body.eval()
    with torch.no_grad():
        return math.prod(body(torch.zeros(1, *shape)).shape[1:])
