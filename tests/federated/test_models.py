"""The target models: shapes, initialisation, determinism, and BatchNorm statistics that stay as they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated import models
from deepleak_core.federated.models import MODELS
from deepleak_core.federated.networks.lenet import lenet
from deepleak_core.federated.networks.network import Network
from deepleak_core.federated.target_model import TargetModel
from tests.helpers import floor_of, use_networks

STATISTICS: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}


def build(name: str, **changed: Any) -> TargetModel:
    return models.build(name, **{"classes": 10, "image_size": 32, **STATISTICS, **changed})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("classes", "size"), [(3, 32), (100, 40)])
def test_shapes(name: str, classes: int, size: int) -> None:
    model = build(name, classes=classes, image_size=size)
    images = torch.rand(2, 3, size, size)
    features = model.features(images)
    assert features.shape == (2, model.head.in_features)
    assert torch.equal(model(images), model.head(features))
    assert model(images).shape == (2, classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnet", "resnet18", "mobilenet-v2"])
def test_the_largest_images(name: str) -> None:
    model = build(name, classes=20, image_size=224)
    with torch.no_grad():
        assert model(torch.rand(1, 3, 224, 224)).shape == (1, 20)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    state = torch.random.get_rng_state()
    first, second, other = build(name, seed=1), build(name, seed=1), build(name, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state), "building a model moved the global generator"
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bias", [True, False])
def test_the_last_layer_has_a_bias_or_not(name: str, bias: bool) -> None:
    assert ("head.bias" in dict(build(name, head_bias=bias).named_parameters())) == bias


def test_normalise_and_back() -> None:
    model, images = build("lenet"), torch.rand(2, 3, 32, 32)
    inputs = model.normalise(images)
    assert torch.allclose(inputs[:, 2], (images[:, 2] - 0.6) / 0.3, atol=1e-6)
    assert torch.allclose(model.denormalise(inputs), images, atol=1e-6)


def test_lenet_starts_from_the_papers_wide_weights() -> None:
    weights = torch.cat([p.detach().flatten() for p in build("lenet").parameters()])
    assert weights.abs().max() <= 0.5
    assert float(weights.std()) == pytest.approx(1 / 12**0.5, rel=0.02)  # uniform on (-0.5, 0.5)


def test_resnet20_has_the_papers_size() -> None:
    """He et al. count 0.27 million weights for 20 layers on CIFAR-10."""
    model = build("resnet20")
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 20
    assert sum(p.numel() for p in model.parameters()) == 269_722


def test_resnet18_at_full_size_is_torchvisions() -> None:
    ours, theirs = build("resnet18", classes=1000, image_size=224), torchvision.models.resnet18()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    theirs.load_state_dict({k.removeprefix("body.").replace("head", "fc"): v for k, v in ours.state_dict().items()})
    images = torch.rand(1, 3, 64, 64)
    assert torch.allclose(ours.eval()(images), theirs.eval()(ours.normalise(images)), atol=1e-5)


def test_mobilenet_is_torchvisions_in_evaluation() -> None:
    ours, theirs = build("mobilenet-v2", classes=1000, image_size=224), torchvision.models.mobilenet_v2()
    names = {k: k.removeprefix("body.").replace("head", "classifier.1") for k in ours.state_dict()}
    theirs.load_state_dict({names[k]: v for k, v in ours.state_dict().items()})
    images = torch.rand(1, 3, 64, 64)
    assert torch.allclose(ours.eval()(images), theirs.eval()(ours.normalise(images)), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_in_a_network_is_random_or_overwrites_its_input(name: str) -> None:
    model, images = build(name, batchnorm="train"), torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), model(images))
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize("name", ["convnet", "resnet20", "resnet18", "mobilenet-v2"])
def test_batchnorm_modes(name: str) -> None:
    """Train: statistics of the batch, so that its images depend on each other. Eval: each image by itself."""
    images = torch.rand(4, 3, 32, 32)
    for mode, alone in (("eval", True), ("train", False)):
        model = build(name, batchnorm=mode)
        state = {n: t.clone() for n, t in model.state_dict().items()}
        assert torch.allclose(model(images)[:2], model(images[:2]), atol=1e-4) == alone
        assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items()), f"{mode} changed a statistic"


def test_batchnorm_in_eval_mode_uses_the_running_statistics() -> None:
    model, images = build("resnet20", batchnorm="eval"), torch.rand(2, 3, 32, 32)
    before = model(images)
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    norm.running_mean += 1.0
    assert not torch.allclose(model(images), before)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_can_be_differentiated_once_more(name: str) -> None:
    model = build(name)
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    loss = nn.functional.cross_entropy(model(images), torch.tensor([1]))
    gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(torch.stack([g.square().sum() for g in gradients]).sum(), images)
    assert second.abs().max() > 0
    assert second.isfinite().all()


# ------------------------------------------------------------------------------------ other networks and images


def network(**changed: Any) -> Network:
    """A registry entry of a small network."""
    fields = {"title": "Test", "summary": "A test.", "source": "none", "body": lenet(8, nn.Tanh), "features": nn.Tanh()}
    return Network(**fields | changed)


@pytest.mark.parametrize("name", MODELS)
def test_greyscale_images(name: str) -> None:
    model = build(name, mean=(0.5,), std=(0.25,))
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 10)
    assert model.low.shape == model.high.shape == (1, 1, 1, 1)
    assert float(model.low) == -2.0
    assert float(model.high) == 2.0


@pytest.mark.parametrize("name", MODELS)
def test_the_floor_that_a_registry_entry_declares_is_that_of_the_body(name: str) -> None:
    """For residual networks, whose last activation is no module, by features of noise."""
    model = build(name)
    assert model.floor is not None
    features = model.features(torch.rand(4, 3, 32, 32) * 8 - 4)
    assert float(features.detach().min()) >= model.floor
    if name not in ("resnet20", "resnet18"):
        assert floor_of(model.body) == (model.floor, model.smooth)


def test_a_network_with_another_activation_is_built_with_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    use_networks(monkeypatch, tanh=network(), unknown=network(body=lenet(8, nn.GELU), features=None))
    assert (build("tanh").floor, build("tanh").smooth) == (-1.0, True)
    assert (build("unknown").floor, build("unknown").smooth) == (None, False)


def test_a_declared_activation_that_is_not_in_the_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use_networks(monkeypatch, unknown=network(body=lenet(8, nn.GELU), features=nn.GELU()))
    with pytest.raises(UnsupportedScenario) as refusal:
        build("unknown")
    assert "GELU" in str(refusal.value)
    assert "Tanh" in str(refusal.value)


@pytest.mark.parametrize("name", ["lenet64-elu", "lenet"])
def test_building_in_two_threads_gives_the_weights_of_building_in_turn(name: str) -> None:
    def weights(seed: int) -> Tensor:
        return torch.cat([p.detach().flatten() for p in build(name, seed=seed).parameters()])

    expected = [weights(seed) for seed in range(40)]
    state = torch.random.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(weights, range(40)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_unknown_and_too_large_networks_are_refused() -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        build("vgg")
    assert "'vgg'" in str(refusal.value)
    assert all(name in str(refusal.value) for name in MODELS)
    with pytest.raises(UnsupportedScenario) as refusal:
        build("lenet64-elu", classes=2000, image_size=224)
    assert "402 million" in str(refusal.value)
    assert "250 million" in str(refusal.value)
