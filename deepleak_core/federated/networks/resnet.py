"""Residual networks."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from deepleak_core.federated.networks.network import Network, Shape, without_overwriting

SMALL = 64  # pixels up to which ResNet-18 has a 3x3 stem without pooling


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (He et al. 2016, option A)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.stride = after // before
        self.conv1 = nn.Conv2d(before, after, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, before, H, W) to (B, after, H / stride, W / stride)."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        pad = y.shape[1] - x.shape[1]
        return torch.relu(y + nn.functional.pad(shortcut, (0, 0, 0, 0, pad // 2, pad - pad // 2)))


def resnet20(shape: Shape) -> nn.Module:
    """ResNet-20 for CIFAR (He et al. 2016): 3 x 3 blocks of 16, 32, 64 channels."""
    blocks = [BasicBlock(a, b) for a, b in ((16, 16),) * 3 + ((16, 32),) + ((32, 32),) * 2]
    blocks += [BasicBlock(a, b) for a, b in ((32, 64),) + ((64, 64),) * 2]
    stem = (nn.Conv2d(shape[0], 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def resnet18(shape: Shape) -> nn.Module:
    """The ResNet-18 of torchvision; up to 64 pixels with the 3x3 stem without pooling used on CIFAR."""
    net: nn.Module = torchvision.models.resnet18()
    net.fc = nn.Identity()
    if shape[1] <= SMALL:
        net.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    elif shape[0] != 3:
        net.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
    return without_overwriting(net)


RESNET20 = Network(
    title="ResNet-20",
    summary="A small residual network made for CIFAR: deep, pooled at the end, hard to invert.",
    source="He et al. 2016, arXiv 1512.03385",
    body=resnet20,
    features=nn.ReLU(),
    suited_attack="mean-of-searches",
)
RESNET18 = Network(
    title="ResNet-18",
    summary="torchvision's ResNet-18, the usual choice at ImageNet size: slow and hard to invert.",
    source="He et al. 2016, arXiv 1512.03385",
    body=resnet18,
    features=nn.ReLU(),
    suited_attack="mean-of-searches",
)
