"""A network made for phones, the devices that federated learning is about."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from deepleak_core.federated.networks.network import Network, Shape, without_overwriting


def body(shape: Shape) -> nn.Module:
    """The MobileNetV2 of torchvision below its classifier; no dropout, which would make an update random.

    Depthwise kernels are drawn by the 9 inputs that they read. torchvision draws them by all channels, which leaves
    features of 1e-7 where BatchNorm does not use the statistics of the batch.
    """
    net: Any = torchvision.models.mobilenet_v2()
    net.classifier = nn.Identity()
    if shape[0] != 3:
        net.features[0][0] = nn.Conv2d(shape[0], 32, 3, stride=2, padding=1, bias=False)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return without_overwriting(net)


MOBILENET_V2 = Network(
    title="MobileNetV2",
    summary="torchvision's MobileNetV2, made for phones: 17 blocks with depthwise convolutions, hard to invert.",
    source="Sandler et al. 2018, arXiv 1801.04381",
    body=body,
    features=nn.ReLU6(),
)
