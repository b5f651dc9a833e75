"""How many images the exact attack can solve for, counted from the shapes of a network.

Two things are needed. The last layer must separate the features of every image (`features.factors`), which bounds the
batch by classes and features. And the pixels of one image need as many equations: known outputs of layers. A layer's
weight gradient gives the inputs of all images, those that share a phase of its stride, as long as it has as many
equations as they have values (`attack.peeling`). Equations are counted only: where there are enough they may still be
too close to dependent, and a search may take too long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from deepleak_core.attack.peeling import MOST_OVER, WORTHWHILE, Link, chain, phases_of, unactivate
from deepleak_core.features.factors import most_separable
from deepleak_core.federated.target_model import TargetModel


@dataclass(frozen=True)
class Bound:
    """At most `images` can be solved for, and the `sentence` that says so; None where nothing can be counted."""

    images: int | None
    sentence: str


def most_images(model: TargetModel, image_shape: tuple[int, int, int]) -> Bound:
    """The largest batch of images (C, H, W) whose pixels the equations of a network determine.

    Reads shapes only: the model may be on the device "meta".

    >>> from deepleak_core.federated.models import build
    >>> network = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    >>> most_images(build("strided", classes=1000, image_size=224, **network), (3, 224, 224)).images
    5
    >>> most_images(build("lenet64-elu", classes=10, image_size=32, **network), (3, 32, 32)).images
    9
    """
    links = chain(model, image_shape)
    if isinstance(links, str):
        return Bound(None, links)
    head = model.head
    separable = most_separable(head.out_features, head.in_features, bias=head.bias is not None)
    pixels, size = math.prod(image_shape), image_shape[2]
    images = next((n for n in range(separable, 0, -1) if _equations(links, n) >= pixels), 0)
    if images == 0:
        return Bound(0, f"No image can be solved exactly from this network at {size} px, only searched for.")
    most = f"At most {images} image{'s' * (images > 1)} can be solved exactly from this network at {size} px"
    by_classes = images == separable < head.in_features - 1
    rest = f", fewer than its {head.out_features} classes" if by_classes else ""
    return Bound(images, f"{most}{rest}; larger batches can only be searched for.")


def _equations(links: tuple[Link, ...], images: int) -> float:
    """How many equations for the pixels of one image peeling leaves, in a batch of so many images (`peeling.peel`)."""
    level = links[-1]
    total = _informative(level)
    for link, below in zip(reversed(links[1:]), reversed(links[:-1]), strict=True):
        share = _known(link, images)
        if share < WORTHWHILE:
            break
        if share < 1:  # the level above is kept to fill the holes, and no layer below can be solved
            return total + share * _informative(below)
        level = below
        total = _informative(level)
    return total


def _known(link: Link, images: int) -> float:
    """The share of a layer's inputs that its weight gradient determines."""
    phases = phases_of(link)
    capacities = [phase.capacity(link) for phase in phases]
    if images > MOST_OVER * max(capacities):
        return 0.0
    _, height, width = link.inputs
    known = [phase.positions(link) for phase, capacity in zip(phases, capacities, strict=True) if capacity >= images]
    return sum(known) / (height * width)


def _informative(link: Link) -> float:
    """How many outputs of a layer are expected to give its pre-activation: half of them after ReLU, else all."""
    return math.prod(link.outputs) * _invertible(link.activation)


def _invertible(activation: nn.Module) -> float:
    """The share of pre-activations, symmetric about zero, that can be told from their outputs."""
    with torch.no_grad():
        _, known = unactivate(activation, activation(torch.tensor([[-1.0, 1.0]])))
    return float(known.mean())
