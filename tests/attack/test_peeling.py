"""Layers peeled off by linear algebra: every step against autograd, the whole against the true layer outputs."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from deepleak_core.attack.matching import separated_features
from deepleak_core.attack.peeling import Link, Peeled, chain, peel, phases_of, signal_matrix
from deepleak_core.federated import models
from deepleak_core.federated.case import observe
from deepleak_core.federated.target_model import TargetModel, feature_dimension
from deepleak_core.scenario import Scenario

SHAPES = [(5, 2, 2, 12), (5, 1, 2, 8), (3, 1, 1, 7), (3, 2, 0, 11), (4, 3, 1, 10)]  # kernel, stride, padding, size


def link(kernel: int, stride: int, padding: int, size: int, filters: int = 6) -> Link:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, filters, kernel, stride=stride, padding=padding).double()
    out = (size + 2 * padding - kernel) // stride + 1
    return Link("body.0", convolution, nn.ELU(), (3, size, size), (filters, out, out))


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_are_those_of_the_convolution(shape: tuple[int, int, int, int]) -> None:
    layer = link(*shape)
    inputs = torch.randn(2, *layer.inputs, dtype=torch.float64, requires_grad=True)
    outputs = layer.convolution(inputs)
    torch.testing.assert_close(layer.forward(inputs), outputs)
    signals = torch.randn_like(outputs)
    (expected,) = torch.autograd.grad(outputs, inputs, signals)
    torch.testing.assert_close(layer.backward(signals), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_signal_matrix_gives_the_weight_gradient(shape: tuple[int, int, int, int]) -> None:
    layer = link(*shape)
    inputs = torch.randn(2, *layer.inputs, dtype=torch.float64)
    outputs = layer.convolution(inputs)
    signals = torch.randn_like(outputs)
    (expected,) = torch.autograd.grad(outputs, layer.convolution.weight, signals)
    found = torch.zeros_like(expected)
    for phase in phases_of(layer):
        own = inputs[:, :, phase.top :: layer.stride, phase.left :: layer.stride]
        product = signal_matrix(layer, signals, phase) @ own.transpose(0, 1).reshape(3, -1).T
        parts = product.reshape(-1, len(phase.rows), len(phase.columns), 3).permute(0, 3, 1, 2)
        for i, row in enumerate(phase.rows):
            found[:, :, row, phase.columns] = parts[:, :, i]
    torch.testing.assert_close(found, expected)


def test_the_networks_that_are_plain_chains_of_convolutions_are_peeled() -> None:
    lengths = {}
    for name in models.MODELS:
        links = chain(models.build(name, classes=10, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3), (3, 32, 32))
        lengths[name] = 0 if isinstance(links, str) else len(links)
    assert lengths == {
        "lenet": 3,
        "lenet64-relu": 3,
        "lenet64-elu": 3,
        "convnet": 0,
        "resnet20": 0,
        "resnet18": 0,
        "mobilenet-v2": 0,
        "strided": 3,
    }


def target(*layers: nn.Module, channels: int = 3) -> TargetModel:
    """A network of these layers on images of 8 pixels."""
    body = nn.Sequential(*layers)
    dimension = feature_dimension(body, (channels, 8, 8))
    return TargetModel(body, nn.Linear(dimension, 4), (0.5,) * channels, (0.25,) * channels)


NOT_PEELED: dict[str, tuple[nn.Module, ...]] = {
    "an activation that is not in the table": (nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten()),
    "pooling": (nn.Conv2d(3, 4, 3), nn.ELU(), nn.MaxPool2d(2), nn.Flatten()),
    "BatchNorm": (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ELU(), nn.Flatten()),
    "groups": (nn.Conv2d(3, 3, 3, groups=3), nn.ELU(), nn.Flatten()),
    "dilation": (nn.Conv2d(3, 4, 3, dilation=2), nn.ELU(), nn.Flatten()),
    "another stride in each direction": (nn.Conv2d(3, 4, 3, stride=(1, 2)), nn.ELU(), nn.Flatten()),
    "no flattening": (nn.Conv2d(3, 4, 8), nn.ELU()),
    "two linear layers": (nn.Flatten(), nn.Linear(192, 8), nn.ELU()),
}


@pytest.mark.parametrize("layers", NOT_PEELED.values(), ids=NOT_PEELED.keys())
def test_other_networks_are_not_peeled_and_a_sentence_says_why(layers: tuple[nn.Module, ...]) -> None:
    reason = chain(target(*layers), (3, 8, 8))
    assert isinstance(reason, str)
    assert reason.endswith(".")


def test_shapes_follow_the_channels_of_the_images() -> None:
    links = chain(target(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), channels=1), (1, 8, 8))
    assert not isinstance(links, str)
    assert (links[0].inputs, links[0].outputs) == ((1, 8, 8), (4, 6, 6))


def peeled_and_true(model: str, indices: tuple[int, ...]) -> tuple[Peeled, dict[str, Tensor], Tensor]:
    """What peeling finds, the true output of every link, and which found image is which."""
    case, truth = observe(Scenario(indices=indices, model=model, device="cpu"))
    target = case.model
    found = separated_features(case, truth.labels.sort().values, seed=0, stop=lambda: False)
    links = chain(target, case.image_shape)
    assert not isinstance(links, str)
    flowing, outputs = target.normalise(truth.images), {}
    with torch.no_grad():
        for layer in links:
            flowing = outputs[layer.name] = layer.activation(layer.forward(flowing))
        distance = torch.cdist(target.features(truth.images).double(), found.features)
    order = torch.as_tensor(linear_sum_assignment(distance.numpy())[1])
    return peel(target, case.gradient, found, links), outputs, order


@pytest.mark.parametrize("model", ["lenet64-elu", "lenet64-relu"])
@pytest.mark.parametrize("indices", [(0, 1, 3, 4), (4, 5, 1, 2), (4, 5, 7, 19)])
def test_peeling_gives_the_true_outputs_of_the_layers_below(model: str, indices: tuple[int, ...]) -> None:
    peeled, outputs, order = peeled_and_true(model, indices)
    assert peeled.solved == ("body.2", "body.4")
    for level in peeled.levels:
        true, found, known = outputs[level.link.name], level.outputs[order].float(), level.known[order]
        assert known.double().mean() > 0.2
        assert ((found - true) * known).norm() < 5e-3 * (true * known).norm()


def test_what_is_not_determined_is_a_hole_and_nothing_else() -> None:
    peeled, _, _ = peeled_and_true("lenet64-relu", (0, 1, 3, 4))
    lowest = peeled.levels[0]
    assert not lowest.known.all()
    assert lowest.outputs[~lowest.known].eq(0).all()
    assert peeled.links[-1].name == peeled.levels[1].link.name  # the whole level above is kept to fill the holes
