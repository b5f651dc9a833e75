"""Training on a small data set: the loss falls, checkpoints hold the network, and seeds make it repeatable."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from deepleak_core.data import datasets, folders
from deepleak_core.data.batches import load_batch
from deepleak_core.errors import DatasetUnavailable, DeepLeakError, OutOfMemory, TrainingDiverged, UnsupportedScenario
from deepleak_core.federated import checkpoints, models, training
from deepleak_core.federated.case import target_model
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.federated.training import Progress, Reading, Saved, Step
from deepleak_core.scenario import Scenario

COLOURS = {"airplane": (115, 120, 140), "cat": (140, 115, 120), "frog": (120, 140, 115)}
TRAIN, TEST = 8, 4  # images of each class
STAGES = {"early": 0.5, "late": 8.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of one colour a class, brighter and darker, under noise."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("test", TEST)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(np.array(colour) + rng.normal(0, 50) + rng.normal(0, 25, (32, 32, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.jpg")
    return root


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Callable[..., list[Progress]]:
    """A short training as its events; checkpoints go to `tmp_path`."""

    def run(**changed: Any) -> list[Progress]:
        settings = {"data": data, "stages": STAGES, "batch_size": 6, "device": "cpu", "out": tmp_path, **changed}
        return list(training.train(settings.pop("model", "lenet64-elu"), **settings))

    return run


def of(kind: type[Any], events: list[Progress]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_it_learns(train: Callable[..., list[Progress]]) -> None:
    events = train()
    losses = [step.loss for step in of(Step, events)]
    assert np.mean(losses[:4]) > 2 * np.mean(losses[-4:])
    early, late = of(Saved, events)
    assert (early.stage, late.stage) == ("early", "late")
    assert late.accuracy == 1.0 > early.accuracy, "eight epochs suffice for these colours, two steps do not"
    settings: dict[str, Any] = {"classes": 10, "image_size": 32, "mean": (0,) * 3, "std": (1,) * 3}
    statistics = models.build("lenet64-elu", **settings, checkpoint=late.checkpoint).class_statistics
    assert statistics is not None
    airplane, cat, frog = 0, 3, 6
    assert statistics.predictions[[airplane, cat, frog]].argmax(1).tolist() == [airplane, cat, frog]


def test_events_come_in_order_with_growing_shares(train: Callable[..., list[Progress]]) -> None:
    events = train()
    steps = of(Step, events)
    assert len(steps) == 8 * 3 * TRAIN // 6
    assert steps[-1].epoch == 8.0
    kinds = [kind for kind, _ in itertools.groupby(map(type, events))]
    assert kinds == [Reading, Step, Saved, Step, Saved]
    for folder in ("train", "test"):
        shares = [event.done for event in of(Reading, events) if event.folder == folder]
        assert shares[0] == 0
        assert shares == sorted(shares)
        assert shares[-1] < 1
    shares = [step.done for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert shares[0] == 1 / len(steps)
    assert [(saved.epoch, saved.done) for saved in of(Saved, events)] == [(0.5, 1 / 16), (8.0, 1.0)]


def test_stages_are_reached_in_the_order_of_their_epochs(train: Callable[..., list[Progress]], tmp_path: Path) -> None:
    events = train(stages={"b": 1.5, "at-once": 1e-6, "a": 0.5})
    assert [(saved.stage, saved.epoch) for saved in of(Saved, events)] == [("at-once", 0.25), ("a", 0.5), ("b", 1.5)]
    names = [f"lenet64-elu--cifar10--{stage}.safetensors" for stage in ("a", "at-once", "b")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("model", ["lenet64-elu", "resnet20"])
def test_a_checkpoint_gives_the_logits_of_the_network_that_was_saved(
    train: Callable[..., list[Progress]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """To the last bit, read back as a training stage."""
    logits: list[Tensor] = []
    all_statistics: list[str] = []
    probe = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    real = checkpoints.save

    def noting(network: TargetModel, path: Path, **facts: Any) -> None:
        logits.append(network.eval()(probe).detach())
        all_statistics.append(facts["statistics"].to_json())
        real(network, path, **facts)

    monkeypatch.setattr(checkpoints, "save", noting)
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    stages = of(Saved, train(model=model, stages={"early": 0.5, "late": 1.0}))
    batch = load_batch(Scenario(images=str(data / "test"), composition="random", batch_size=TEST * len(COLOURS)))
    for saved, before, statistics in zip(stages, logits, all_statistics, strict=True):
        network = target_model(Scenario(model=model, stage=saved.stage))
        assert torch.equal(network(probe), before)
        with safe_open(saved.checkpoint, "pt") as file:
            events = json.loads(file.metadata()["training"])
        assert events == {"epochs": saved.epoch, "accuracy": round(saved.accuracy, 4), "validation": statistics}
        right = network(batch.images).argmax(1) == batch.labels
        assert float(right.double().mean()) == pytest.approx(saved.accuracy)
    assert not torch.equal(*logits)


def test_running_batchnorm_statistics_are_learned_and_used(train: Callable[..., list[Progress]]) -> None:
    (saved,) = of(Saved, train(model="resnet20", stages={"late": 2.0}))
    mean, std = datasets.DATASETS["cifar10-samples"].statistics
    settings: dict[str, Any] = {"classes": 10, "image_size": 32, "mean": mean, "std": std}
    trained = models.build("resnet20", **settings, checkpoint=saved.checkpoint)
    norms = [module for module in trained.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked == 8 for norm in norms)
    assert all(norm.running_mean.abs().max() > 0 and not norm.running_var.eq(1).any() for norm in norms)
    images = torch.rand(4, 3, 32, 32)
    before = trained(images)
    for norm in norms:
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
    assert not torch.allclose(trained(images), before, atol=1e-3)


def test_training_is_deterministic_for_a_seed(train: Callable[..., list[Progress]], tmp_path: Path) -> None:
    def learned(seed: int) -> tuple[list[float], bytes]:
        events = train(seed=seed, stages={"late": 1.0}, limit=12)
        return [step.loss for step in of(Step, events)], of(Saved, events)[0].checkpoint.read_bytes()

    state = torch.random.get_rng_state()
    first = learned(1)
    assert torch.equal(torch.random.get_rng_state(), state), "training changed the state of the global generator"
    torch.rand(7)
    assert learned(1) == first
    assert learned(2)[0] != first[0]


def test_it_starts_from_the_untrained_model_of_its_seed(
    train: Callable[..., list[Progress]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Scenario] = []
    real = training.target_model
    monkeypatch.setattr(training, "target_model", lambda scenario: seen.append(scenario) or real(scenario))
    train(seed=3, stages={"late": 0.25})
    assert [(scenario.stage, scenario.seed) for scenario in seen] == [("untrained", 3)]


def test_a_limit_draws_images_at_random(train: Callable[..., list[Progress]], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = folders.open_image
    monkeypatch.setattr(
        folders, "open_image", lambda path, *, name: read.append(name.replace("/", "")) or real(path, name=name)
    )
    train(stages={"late": 0.5}, limit=7)
    train_files, test_files = read[:7], read[7:]
    assert len(set(train_files)) == len(set(test_files)) == 7
    assert len({name.rstrip("0123456789.jpg") for name in train_files}) > 1, "not the first class alone"


def test_greyscale_images(train: Callable[..., list[Progress]], data: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(COLOURS):
            shutil.copytree(data / split / name, tmp_path / "digits" / split / str(label))
    (saved,) = of(Saved, train(dataset="mnist-samples", data=tmp_path / "digits", stages={"late": 0.5}))
    network = models.build("lenet64-elu", classes=10, image_size=32, mean=(0,), std=(1,), checkpoint=saved.checkpoint)
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 10)


# --------------------------------------------------------------------------------------------------- refusals

REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "network": ({"model": "vgg"}, ("vgg", *models.MODELS)),
    "data set": ({"dataset": "none"}, ("none", *datasets.DATASETS)),
    "a data set without classes": ({"dataset": "folder"}, ("folder", "cifar10")),
    "no stages": ({"stages": {}}, ("stages",)),
    "no epochs": ({"stages": {"late": 0}}, ("late=0", "1000")),
    "negative epochs": ({"stages": {"late": -1.5}}, ("late=-1.5",)),
    "endless": ({"stages": {"late": float("inf")}}, ("late=inf",)),
    "no number": ({"stages": {"late": float("nan")}}, ("late=nan",)),
    "untrained": ({"stages": {"untrained": 1}}, ("untrained",)),
    "a path": ({"stages": {"../late": 1}}, ("../late",)),
    "hyphens": ({"stages": {"x--y": 1}}, ("x--y",)),
    "no name": ({"stages": {"": 1}}, ("''",)),
    "image size": ({"image_size": 16}, ("16", "32", "224")),
    "seed": ({"seed": -1}, ("seed", "-1")),
    "device": ({"device": "tpu"}, ("tpu", "cuda")),
    "limit": ({"limit": 0}, ("limit", "0")),
    "batch size": ({"batch_size": 25}, ("25", "24")),
    "batch size beyond the limit": ({"limit": 5}, ("6", "5")),
}


@pytest.mark.parametrize(("changed", "facts"), REFUSED.values(), ids=REFUSED.keys())
def test_settings_that_cannot_be_trained_with(
    train: Callable[..., list[Progress]], changed: dict[str, Any], facts: tuple[str, ...]
) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        train(**changed)
    (problem,) = refusal.value.problems
    assert all(fact in problem for fact in facts)
    assert problem.endswith(".")


def test_all_problems_are_said_at_once(train: Callable[..., list[Progress]]) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        train(batch_size=0, learning_rate=0, stages={"late": 0}, limit=0)
    assert len(refusal.value.problems) == 4


def test_folders_that_are_not_there(train: Callable[..., list[Progress]], data: Path, tmp_path: Path) -> None:
    for missing in ("train", "test"):
        folder = tmp_path / f"no {missing}"
        for split in {"train", "test"} - {missing}:
            (folder / split).mkdir(parents=True)
            shutil.copytree(data / split / "cat", folder / split / "cat")
        with pytest.raises(DatasetUnavailable, match=rf"no folder '{missing}'"):
            train(data=folder)


def test_folders_that_hold_something_else(train: Callable[..., list[Progress]], data: Path, tmp_path: Path) -> None:
    (tmp_path / "test").symlink_to(data / "test")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DatasetUnavailable, match="holds no images"):
        train(data=tmp_path)
    (tmp_path / "train" / "cat" / "0.jpg").write_text("no picture")
    with pytest.raises(DatasetUnavailable, match=r"^cat/0\.jpg could not be read as an image"):
        train(data=tmp_path, batch_size=1)
    (tmp_path / "train" / "unicorn").mkdir()
    with pytest.raises(DatasetUnavailable, match="has a class folder named 'unicorn', which is no class here"):
        train(data=tmp_path)


def test_a_folder_that_cannot_be_made_is_refused_before_the_training(train: Callable[..., list[Progress]]) -> None:
    events: list[Progress] = []
    with pytest.raises(UnsupportedScenario) as refusal:
        events += train(out=Path(__file__) / "checkpoints")
    assert f"{__file__}/checkpoints" in str(refusal.value)
    assert not events


def test_more_images_than_memory(train: Callable[..., list[Progress]], monkeypatch: pytest.MonkeyPatch) -> None:
    available = psutil.virtual_memory()._replace(available=100_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    with pytest.raises(OutOfMemory, match="36 images at 32 pixels"):
        train()


def test_a_loss_that_is_no_number_ends_the_training(
    train: Callable[..., list[Progress]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.target_model

    def broken(scenario: Scenario) -> TargetModel:
        network = real(scenario)
        network.head.bias.data.fill_(float("nan"))
        return network

    monkeypatch.setattr(training, "target_model", broken)
    with pytest.raises(TrainingDiverged) as refusal:
        train()
    assert isinstance(refusal.value, DeepLeakError)
    assert "nan" in str(refusal.value)
    assert "learning_rate was 0.05" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
