"""The bound on the batch of the exact attack, against what the attack does at the bound and above it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deepleak_core.attack.bounds import most_images
from deepleak_core.attack.exact import ExactSettings, reconstruct_exactly
from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import Stage
from deepleak_core.federated import models
from deepleak_core.federated.target_model import TargetModel, feature_dimension
from tests.helpers import case_of, random_images

SHAPE = (3, 16, 16)
MEAN, STD = (0.5,) * 3, (0.25,) * 3


def network(
    *, below: int = 24, filters: int = 18, bias: bool = True, activation: type[nn.Module] = nn.ELU
) -> TargetModel:
    """Two strided convolutions whose features are fewer than pixels: the upper one has to be solved."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, below, 4, 2, 1),
        activation(),
        nn.Conv2d(below, filters, 4, 2, 1),
        activation(),
        nn.Flatten(),
    )
    body = nn.Sequential(*layers)
    head = nn.Linear(feature_dimension(body, SHAPE), 12, bias=bias)
    return TargetModel(body, head, MEAN, STD, floor=-1.0, smooth=True)


def attacked(model: TargetModel, images: int) -> tuple[Tensor, list[Iterate], list[Stage]]:
    """The private images of a batch, the pixels found by solving layers alone, and the stages."""
    private = (random_images(images, *SHAPE) * 255).round() / 255
    labels = torch.arange(images) % 5
    case = case_of(model, private, labels)
    solved: list[Iterate] = []
    stages: list[Stage] = []
    for progress in reconstruct_exactly(case, labels.sort().values.tolist(), ExactSettings(iterations=1)):
        if isinstance(progress, Stage):
            stages.append(progress)
            if progress.name == "Full update matched":
                break
        elif isinstance(progress, Iterate):
            solved.append(progress)
    return private, solved, stages


@pytest.mark.parametrize("filters", [13, 18])
def test_a_batch_at_the_bound_is_solved_and_one_image_more_is_not(filters: int) -> None:
    model = network(filters=filters)
    most = most_images(model, SHAPE).images
    assert most is not None
    assert 2 < most < 8
    private, solved, _ = attacked(model, most)
    found = model.denormalise(solved[-1].inputs[0])
    distance = torch.cdist(private.flatten(1), found.flatten(1))
    pairs = private - found[distance.argmin(1)]
    assert pairs.abs().max() < 0.5 / 255, "every image is there, to the pixel"
    _, solved, stages = attacked(model, most + 1)
    assert not solved
    assert any(str(most) in stage.sentence for stage in stages if stage.remark)


def test_the_bound_grows_with_filters_and_never_passes_the_classes() -> None:
    few, many = (most_images(network(filters=f), SHAPE).images for f in (13, 18))
    assert few is not None
    assert many is not None
    assert few < many
    assert most_images(network(filters=200), SHAPE).images == 11
    assert most_images(network(filters=200, bias=False), SHAPE).images == 10


def test_relu_leaves_fewer_equations_than_an_invertible_activation() -> None:
    smooth, rectified = (most_images(network(below=16, activation=a), SHAPE).images for a in (nn.ELU, nn.ReLU))
    assert smooth is not None
    assert rectified is not None
    assert rectified < smooth


@pytest.mark.parametrize("name", ["lenet", "lenet64-relu", "lenet64-elu", "strided"])
def test_shapes_are_enough_and_larger_images_never_raise_the_bound(name: str) -> None:
    bounds = []
    for size in (32, 64, 96, 224):
        with torch.device("meta"):
            model = models.build(name, classes=100, image_size=size, mean=MEAN, std=STD)
        bound = most_images(model, (3, size, size))
        assert bound.images is not None
        assert str(size) in bound.sentence
        bounds.append(bound.images)
    assert bounds == sorted(bounds, reverse=True)


def test_a_network_that_is_no_chain_has_no_bound() -> None:
    model = models.build("resnet20", classes=10, image_size=32, mean=MEAN, std=STD)
    bound = most_images(model, (3, 32, 32))
    assert bound.images is None
    assert bound.sentence.endswith(".")
