"""The target models: shapes, initialisation, determinism, and BatchNorm that nobody changes by looking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_model
from torch import nn

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated import checkpoints, models
from deepleak_core.federated.models import MODELS
from deepleak_core.federated.target_model import TargetModel

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


@pytest.mark.parametrize("name", ["convnet", "resnet18"])
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


@pytest.mark.parametrize("name", ["convnet", "resnet20", "resnet18"])
def test_batchnorm_modes(name: str) -> None:
    """Train: a batch's own statistics, so images know of each other. Eval: each image on its own."""
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
    assert second.abs().max() > 0 and second.isfinite().all()


def test_a_checkpoint_is_a_training_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = build("lenet", seed=7)
    save_model(trained, str(tmp_path / "lenet--cifar10--early.safetensors"))
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    assert list(checkpoints.stages("lenet", "cifar10")) == ["untrained", "early"]
    assert list(checkpoints.stages("lenet", "cifar100")) == ["untrained"]
    model = build("lenet", seed=1, checkpoint=checkpoints.stages("lenet", "cifar10")["early"])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True))


def test_a_stage_trained_here_replaces_one_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path))
    shipped = checkpoints.stages("lenet64-elu", "cifar10")
    assert shipped["late"] is not None and shipped["late"].parent == checkpoints.CHECKPOINTS
    checkpoints.own_folder().mkdir()
    for stage in ("late", "last"):
        own = checkpoints.own_folder() / checkpoints.checkpoint_name("lenet64-elu", "cifar10", stage)
        checkpoints.save(build("lenet64-elu"), own, epochs=1, accuracy=0.5)
    stages = checkpoints.stages("lenet64-elu", "cifar10")
    assert stages.keys() == shipped.keys() | {"last"} and stages["early"] == shipped["early"]
    assert [stages[name].parent for name in ("late", "last")] == [checkpoints.own_folder()] * 2


def test_a_checkpoint_tells_of_its_training(tmp_path: Path) -> None:
    path = tmp_path / checkpoints.checkpoint_name("resnet20", "cifar10", "late")
    assert checkpoints.describe(path) == "unreadable"
    for epochs, accuracy, words in (
        (0.2507, 0.4208, "0.25 epochs, 42 %"),
        (1, 0.5, "1 epoch, 50 %"),
        (120, 1, "120 epochs, 100 %"),
    ):
        checkpoints.save(build("resnet20"), path, epochs=epochs, accuracy=accuracy)
        assert checkpoints.describe(path) == f"{words} accuracy"
        assert checkpoints.note("late", path) == f"late: {words} accuracy"
    save_model(build("resnet20"), str(path))
    assert checkpoints.describe(path) == "training unknown"
    path.write_bytes(b"not a checkpoint")
    assert checkpoints.describe(path) == "unreadable"


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "image size": (
        {"image_size": 64},
        "was trained for an image_size of 32; take that, or stage untrained.",
    ),
    "no bias": (
        {"head_bias": False},
        "was trained with a bias in the last layer, head_bias asks for none; change it, or take stage untrained.",
    ),
    "classes": (
        {"classes": 100},
        "does not fit this network: head.bias is 10 in the file and should be 100; train it again, or take stage "
        "untrained.",
    ),
    "another network": (
        {"name": "resnet20"},
        "does not fit this network: body.0.bias is 12 in the file and should be missing; train it again, or take stage "
        "untrained.",
    ),
}


@pytest.mark.parametrize(("asked", "sentence"), MISFITS.values(), ids=MISFITS.keys())
def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, asked: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "lenet--cifar10--late.safetensors"
    checkpoints.save(build("lenet"), path, epochs=1, accuracy=0.5)
    with pytest.raises(UnsupportedScenario) as refusal:
        build(**{"name": "lenet", "checkpoint": path, **asked})
    assert refusal.value.problems == (f"{path.name} {sentence}",)


def test_a_checkpoint_without_a_bias(tmp_path: Path) -> None:
    path = tmp_path / "lenet--cifar10--late.safetensors"
    checkpoints.save(build("lenet", head_bias=False), path, epochs=1, accuracy=0.5)
    build("lenet", head_bias=False, checkpoint=path)
    with pytest.raises(
        UnsupportedScenario, match="was trained with no bias in the last layer, head_bias asks for one;"
    ):
        build("lenet", checkpoint=path)


@pytest.mark.parametrize("content", [None, b"", b"no weights"])
def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "lenet--cifar10--late.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnsupportedScenario, match=rf"^{path.name} cannot be read as safetensors \(.*train it again"):
        build("lenet", checkpoint=path)


@pytest.mark.parametrize("path", sorted(checkpoints.CHECKPOINTS.glob("*")), ids=lambda path: path.stem)
def test_what_is_shipped_fits(path: Path) -> None:
    name, vocabulary, stage = path.stem.split("--")
    assert path.name == checkpoints.checkpoint_name(name, vocabulary, stage)
    assert vocabulary == "cifar10", "ten classes are built here"
    assert all(weights.isfinite().all() for weights in build(name, checkpoint=path).parameters())


def test_refusals() -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        build("vgg")
    assert str(refusal.value) == f"model was 'vgg'; accepted are {', '.join(MODELS)}."
    with pytest.raises(UnsupportedScenario) as refusal:
        build("lenet64-elu", classes=2000, image_size=224)
    assert str(refusal.value) == (
        "lenet64-elu at 224 pixels with 2000 classes has 402 million parameters, the limit is 250 million; take "
        "smaller images or resnet18."
    )
