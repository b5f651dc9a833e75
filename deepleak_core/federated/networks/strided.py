"""A plain chain of strided convolutions for large images.

Strides shrink 224 x 224 pixels to a feature map of 14 x 14, so the last layer of 1000 classes stays at 25 million
weights. Kernels are a multiple of their stride, so every input pixel meets equally many kernel entries.
"""

from __future__ import annotations

from torch import nn

from deepleak_core.federated.networks.network import Network, Shape

LAYERS = ((96, 8, 4), (384, 6, 2), (128, 6, 2))  # channels, kernel, stride


def body(shape: Shape) -> nn.Module:
    """Three convolutions with strides 4, 2, 2, each followed by ELU."""
    layers: list[nn.Module] = []
    before = shape[0]
    for channels, kernel, stride in LAYERS:
        layers += [nn.Conv2d(before, channels, kernel, stride, padding=(kernel - stride) // 2), nn.ELU()]
        before = channels
    return nn.Sequential(*layers, nn.Flatten())


STRIDED = Network(
    title="Strided (ELU)",
    summary="A plain chain with strides 4, 2, 2 for images up to 224 pixels.",
    source="after AlexNet, Krizhevsky et al. 2012",
    body=body,
    features=nn.ELU(),
)
