"""A convolutional network with BatchNorm and max-pooling."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from deepleak_core.federated.networks.network import Network, Shape


def convnet(shape: Shape) -> nn.Module:
    """Eight 3x3 convolutions with BatchNorm and two max-poolings (Geiping et al. 2020, width 64)."""
    widths = (shape[0], 64, 128, 128, 256, 256, 256, 256, 256)
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        if i in (5, 7):
            layers.append(nn.MaxPool2d(3))
    return nn.Sequential(*layers, nn.Flatten())


CONVNET = Network(
    title="ConvNet",
    summary="Eight convolutions, BatchNorm, max-pooling: much harder to invert.",
    source="Geiping et al. 2020, arXiv 2003.14053",
    body=convnet,
    features=nn.ReLU(),
    suited_attack="coarse-to-fine",
)
