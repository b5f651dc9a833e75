"""Plain chains of three convolutions after LeNet, with one activation."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from deepleak_core.federated.networks.network import Body, Network, Shape

ZHU = "Zhu et al. 2019, arXiv 1906.08935"


def lenet(channels: int, activation: Callable[[], nn.Module]) -> Body:
    """Three 5x5 convolutions of as many `channels` with strides 2, 2, 1, each followed by the activation."""

    def body(shape: Shape) -> nn.Module:
        layers: list[nn.Module] = []
        for before, stride in ((shape[0], 2), (channels, 2), (channels, 1)):
            layers += [nn.Conv2d(before, channels, 5, padding=2, stride=stride), activation()]
        return nn.Sequential(*layers, nn.Flatten())

    return body


LENET = Network(
    title="LeNet (sigmoid)",
    summary="The network of DLG: 12 channels, sigmoid, wide uniform weights.",
    source=ZHU,
    body=lenet(12, nn.Sigmoid),
    features=nn.Sigmoid(),
    uniform_init=0.5,
)
LENET64_RELU = Network(
    title="LeNet-64 (ReLU)",
    summary="The same shape with 64 channels and ReLU: leaks well, though ReLU discards information.",
    source=f"after {ZHU}",
    body=lenet(64, nn.ReLU),
    features=nn.ReLU(),
)
LENET64_ELU = Network(
    title="LeNet-64 (ELU)",
    summary="The same shape with 64 channels, a smooth activation and no pooling: leaks most.",
    source=f"after {ZHU}",
    body=lenet(64, nn.ELU),
    features=nn.ELU(),
)
