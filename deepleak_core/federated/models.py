"""Target models: the networks that clients train, and what the server knows about them.

Every network is a `TargetModel`: a body that maps images to features (B, D), and one linear last layer, the `head`.
Images enter in [0, 1] and are normalised inside. To add a network, write a file in `networks` and add one entry to
`MODELS`; other packages add theirs by an entry point in the group `deepleak.models`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import nn

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated import checkpoints
from deepleak_core.federated.activations import activation_of, known_activations
from deepleak_core.federated.networks.convnet import CONVNET
from deepleak_core.federated.networks.lenet import LENET, LENET64_ELU, LENET64_RELU
from deepleak_core.federated.networks.mobilenet import MOBILENET_V2
from deepleak_core.federated.networks.network import Network
from deepleak_core.federated.networks.resnet import RESNET18, RESNET20
from deepleak_core.federated.networks.strided import STRIDED
from deepleak_core.federated.target_model import TargetModel, feature_dimension
from deepleak_core.registry import Registry
from deepleak_core.scenario import BatchNormMode
from deepleak_core.text import unknown

PARAMETER_LIMIT = 250_000_000

MODELS = Registry(
    "deepleak.models",
    Network,
    {
        "lenet": LENET,
        "lenet64-relu": LENET64_RELU,
        "lenet64-elu": LENET64_ELU,
        "convnet": CONVNET,
        "resnet20": RESNET20,
        "resnet18": RESNET18,
        "mobilenet-v2": MOBILENET_V2,
        "strided": STRIDED,
    },
)


_building = threading.Lock()


def build(
    name: str,
    *,
    classes: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    head_bias: bool = True,
    batchnorm: BatchNormMode = "eval",
    seed: int = 0,
    checkpoint: Path | None = None,
) -> TargetModel:
    """The network `name` with weights drawn by `seed`, or read from a safetensors `checkpoint`.

    Images have as many channels as `mean` and `std` have entries. BatchNorm layers use their running statistics
    (`eval`) or those of the batch (`train`); neither mode ever changes the running ones, since a gradient is taken at
    the weights that the server sent. Raises `UnsupportedScenario` where the network is unknown, too large, or not the
    one that the checkpoint was made from.

    >>> model = build("lenet", classes=10, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> model(torch.rand(4, 3, 32, 32)).shape, model.head.in_features
    (torch.Size([4, 10]), 768)
    """
    network = network_of(name)
    shape = (len(mean), image_size, image_size)
    floor, smooth = _floor_of(name, network)
    with _seeded(seed):
        body = network.body(shape)
        dimension = feature_dimension(body, shape)
        parameters = dimension * classes + sum(p.numel() for p in body.parameters())
        if parameters > PARAMETER_LIMIT:
            raise UnsupportedScenario(
                [
                    f"{name} at {image_size} pixels with {classes} classes has {parameters / 1e6:.0f} million "
                    f"parameters, the limit is {PARAMETER_LIMIT / 1e6:.0f} million; take smaller images or resnet18."
                ]
            )
        head = nn.Linear(dimension, classes, bias=head_bias)
        model = TargetModel(body, head, mean, std, floor, smooth=smooth)
        if network.uniform_init is not None:
            for parameter in model.parameters():
                nn.init.uniform_(parameter, -network.uniform_init, network.uniform_init)
    if checkpoint is not None:
        if problem := checkpoints.misfit(model, checkpoint):
            raise UnsupportedScenario([problem])
        load_model(model, checkpoint)
        model.class_statistics = checkpoints.class_statistics_of(checkpoint, classes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    return model.train(batchnorm == "train")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generator, which PyTorch's initialisers draw from, for one thread at a time; then restore it."""
    with _building, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs as well
        yield


def _floor_of(name: str, network: Network) -> tuple[float | None, bool]:
    """The least value of a feature, and whether features are smooth; `features` None means that nothing is known."""
    if network.features is None:
        return None, False
    entry = activation_of(network.features)
    if entry is None:
        raise UnsupportedScenario(
            [
                f"model {name!r} says that its features come from {type(network.features).__name__}, which is not in "
                f"the table of activations; known are {known_activations()}: add it there, or declare features=None."
            ]
        )
    return entry.floor(network.features), entry.smooth


def network_of(name: str) -> Network:
    """The registry entry of a network. Raises `UnsupportedScenario` naming the known ones."""
    if name not in MODELS:
        raise UnsupportedScenario([unknown("model", name, MODELS)])
    return MODELS[name]
