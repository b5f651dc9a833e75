"""The client's round against PyTorch's own optimiser, and FedAvg against FedSGD."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from deepleak_core.federated.client import ClientUpdate, LocalTraining, local_training, mean_gradient, share, weights_of
from deepleak_core.federated.models import MODELS, build
from deepleak_core.federated.target_model import TargetModel

LABELS = torch.tensor([3, 3, 0, 7, 9])


def target(name: str = "lenet64-elu", **changed: object) -> TargetModel:
    return build(name, classes=10, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3, **changed)  # type: ignore[arg-type]


def images(seed: int = 0) -> Tensor:
    return torch.rand(len(LABELS), 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_fedsgd_is_the_gradient_of_the_mean_loss(name: str, batchnorm: str) -> None:
    model = target(name, batchnorm=batchnorm)
    update = share(model, images(), LABELS)
    cross_entropy(model(images()), LABELS).backward()
    assert update.mode == "fedsgd"
    assert update.local_steps == 0
    assert list(update.tensors) == [n for n, _ in model.named_parameters()]
    for parameter, shared in zip(model.parameters(), update.tensors.values(), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(shared, parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("name", "lr"), [("lenet64-elu", 0.001), ("lenet64-elu", 0.1), ("resnet20", 0.1)])
def test_one_step_of_fedavg_is_equivalent_to_fedsgd(name: str, lr: float) -> None:
    model = target(name).double()
    gradient = share(model, images().double(), LABELS).gradient(model)
    local = LocalTraining(epochs=1, batch_size=len(LABELS), lr=lr)
    update = share(model, images().double(), LABELS, local)
    assert update.mode == "fedavg"
    assert update.local_steps == 1
    for name, tensor in update.gradient(model).items():
        assert torch.allclose(tensor, gradient[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("name", "momentum"), [("lenet64-relu", 0.0), ("lenet64-relu", 0.9), ("resnet20", 0.9)])
def test_fedavg_is_what_pytorchs_sgd_does(name: str, momentum: float) -> None:
    """Three epochs of mini-batches of two, the last one short, in the order of the batch."""
    model = target(name, batchnorm="train").double()
    local = LocalTraining(epochs=3, batch_size=2, lr=0.05, momentum=momentum)
    update = share(model, images().double(), LABELS, local)
    assert update.local_steps == 9
    reference = target(name, batchnorm="train").double()
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=momentum)
    for _ in range(3):
        for part in (slice(0, 2), slice(2, 4), slice(4, 5)):
            optimizer.zero_grad()
            cross_entropy(reference(images().double()[part]), LABELS[part]).backward()
            optimizer.step()
    for layer, parameter in reference.named_parameters():
        assert torch.allclose(update.tensors[layer], parameter.detach(), atol=1e-9), layer


def test_a_known_order_goes_class_by_class_and_an_unknown_one_is_shuffled_in_every_epoch() -> None:
    known = LocalTraining(epochs=2, batch_size=2, lr=0.1)
    (first, second) = known.ordered(LABELS, seed=0) or []
    assert LABELS[first].tolist() == sorted(LABELS.tolist())
    assert torch.equal(first, second)
    secret = replace(known, epochs=20, order="unknown")
    orders = secret.ordered(LABELS, seed=0) or []
    assert all(order.sort().values.tolist() == list(range(len(LABELS))) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) > 10
    assert [o.tolist() for o in secret.ordered(LABELS, seed=1) or []] != [o.tolist() for o in orders]
    assert replace(secret, batch_size=len(LABELS)).ordered(LABELS, seed=0) is None


def test_an_order_is_a_permutation_of_images_and_labels() -> None:
    model, local = target().double(), LocalTraining(epochs=2, batch_size=2, lr=0.1)
    order = torch.tensor([4, 2, 0, 1, 3])
    shuffled = share(model, images().double(), LABELS, local, orders=[order, order])
    sorted_before = share(model, images().double()[order], LABELS[order], local)
    assert all(torch.equal(tensor, sorted_before.tensors[name]) for name, tensor in shuffled.tensors.items())


def test_without_knowledge_of_the_order_the_assumed_steps_do_not_depend_on_it() -> None:
    secret = LocalTraining(epochs=2, batch_size=2, lr=0.1, momentum=0.5, order="unknown")
    assumed = secret.assumed(len(LABELS))
    assert assumed.slices(len(LABELS)) == [slice(0, len(LABELS))] * 6
    assert assumed.scale(len(LABELS)) == secret.scale(len(LABELS))
    known = replace(secret, order="known")
    assert known.assumed(len(LABELS)) == known


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_small_learning_rate_gives_the_gradient_whatever_the_momentum(momentum: float) -> None:
    model = target().double()
    gradient = share(model, images().double(), LABELS).gradient(model)
    local = LocalTraining(epochs=4, batch_size=len(LABELS), lr=1e-6, momentum=momentum)
    averaged = share(model, images().double(), LABELS, local).gradient(model)
    for layer, tensor in averaged.items():
        assert torch.allclose(tensor, gradient[layer], rtol=1e-3, atol=1e-6), layer


def test_sharing_changes_no_model() -> None:
    model = target()
    before = {name: weight.clone() for name, weight in weights_of(model).items()}
    share(model, images(), LABELS, LocalTraining(epochs=2, batch_size=2, lr=0.1))
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(model).items())


def test_an_update_holds_tensors_a_count_and_public_settings_only() -> None:
    """No autograd history leads back to the images."""
    assert [f.name for f in fields(ClientUpdate)] == ["tensors", "batch_size", "local"]
    assert [f.name for f in fields(LocalTraining)] == ["epochs", "batch_size", "lr", "momentum", "order"]
    model = target()
    for local in (None, LocalTraining(epochs=2, batch_size=2, lr=0.1)):
        update = share(model, images().requires_grad_(), LABELS, local)
        assert {n: t.shape for n, t in update.tensors.items()} == {n: p.shape for n, p in model.named_parameters()}
        assert all(not t.requires_grad and t.grad_fn is None for t in update.tensors.values())


def test_a_gradient_does_not_depend_on_the_order_of_the_batch() -> None:
    model = target().double()
    turned = share(model, images().double().flip(0), LABELS.flip(0))
    for name, tensor in share(model, images().double(), LABELS).tensors.items():
        assert torch.allclose(turned.tensors[name], tensor, atol=1e-12)


def test_local_training_can_be_differentiated_in_the_images() -> None:
    """Against a central difference along one direction, in float64."""
    model, local = target("lenet").double(), LocalTraining(epochs=2, batch_size=3, lr=0.1)
    point = images().double()
    direction = images(seed=1).double() - 0.5

    def after(x: Tensor, create_graph: bool = False) -> Tensor:
        return local_training(model, x, LABELS, local, create_graph=create_graph)["body.0.weight"].square().sum()

    moving = point.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(after(moving, create_graph=True), moving)
    step = 1e-4
    difference = (after(point + step * direction) - after(point - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-4)


def test_a_gradient_at_other_weights_leaves_them_alone() -> None:
    model = target()
    weights = {name: weight + 0.01 for name, weight in weights_of(model).items()}
    kept = {name: weight.clone() for name, weight in weights.items()}
    gradient = mean_gradient(model, weights, images(), LABELS)
    assert all(torch.equal(weight.detach(), kept[name]) for name, weight in weights.items())
    assert not torch.allclose(gradient["head.weight"], share(model, images(), LABELS).tensors["head.weight"])


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4))
def test_mini_batches_cover_every_image_once_an_epoch(total: int, size: int, epochs: int) -> None:
    slices = LocalTraining(epochs=epochs, batch_size=size, lr=0.1).slices(total)
    one = slices[: len(slices) // epochs]
    assert slices == one * epochs
    assert [i for part in one for i in range(total)[part]] == list(range(total))
    assert all(part.stop - part.start <= size for part in one)
    assert all(a.stop - a.start == size for a, _ in pairwise(one)), "only the last may be short"


@pytest.mark.parametrize("local", [None, LocalTraining(epochs=1, batch_size=2, lr=0.1)])
def test_updates_are_the_same_where_gradients_are_switched_off(local: LocalTraining | None) -> None:
    model = target()
    expected = share(model, images(), LABELS, local)
    with torch.no_grad():
        found = share(model, images(), LABELS, local)
    assert all(torch.equal(tensor, found.tensors[name]) for name, tensor in expected.tensors.items())
