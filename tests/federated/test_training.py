"""Training on a toy: it learns, keeps what it learned, and the same seed learns the same."""

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

from deepleak_core.attack import run as attack
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
    """A short training, told to its end; checkpoints go to `tmp_path`."""

    def run(**changed: Any) -> list[Progress]:
        settings = {"data": data, "stages": STAGES, "batch_size": 6, "device": "cpu", "out": tmp_path, **changed}
        return list(training.train(settings.pop("model", "lenet64-elu"), **settings))

    return run


def of(kind: type[Any], told: list[Progress]) -> list[Any]:
    return [event for event in told if isinstance(event, kind)]


def test_it_learns(train: Callable[..., list[Progress]]) -> None:
    told = train()
    losses = [step.loss for step in of(Step, told)]
    assert np.mean(losses[:4]) > 2 * np.mean(losses[-4:])
    early, late = of(Saved, told)
    assert (early.stage, late.stage) == ("early", "late")
    assert late.accuracy == 1.0 > early.accuracy, "eight passes tell the colours apart, two steps do not"
    settings: dict[str, Any] = {"classes": 10, "image_size": 32, "mean": (0,) * 3, "std": (1,) * 3}
    statistics = models.build("lenet64-elu", **settings, checkpoint=late.checkpoint).class_statistics
    assert statistics is not None
    airplane, cat, frog = 0, 3, 6
    assert statistics.predictions[[airplane, cat, frog]].argmax(1).tolist() == [airplane, cat, frog]


def test_what_it_tells(train: Callable[..., list[Progress]]) -> None:
    told = train()
    steps = of(Step, told)
    assert len(steps) == 8 * 3 * TRAIN // 6 and steps[-1].epoch == 8.0
    kinds = [kind for kind, _ in itertools.groupby(map(type, told))]
    assert kinds == [Reading, Step, Saved, Step, Saved]
    for folder in ("train", "test"):
        shares = [event.done for event in of(Reading, told) if event.folder == folder]
        assert shares[0] == 0 and shares == sorted(shares) and shares[-1] < 1
    shares = [step.done for step in steps]
    assert shares == sorted(shares) and shares[-1] == 1 and shares[0] == 1 / len(steps)
    assert [(saved.epoch, saved.done) for saved in of(Saved, told)] == [(0.5, 1 / 16), (8.0, 1.0)]


def test_stages_are_reached_in_the_order_of_their_epochs(train: Callable[..., list[Progress]], tmp_path: Path) -> None:
    told = train(stages={"b": 1.5, "at-once": 1e-6, "a": 0.5})
    assert [(saved.stage, saved.epoch) for saved in of(Saved, told)] == [("at-once", 0.25), ("a", 0.5), ("b", 1.5)]
    names = [f"lenet64-elu--cifar10--{stage}.safetensors" for stage in ("a", "at-once", "b")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("model", ["lenet64-elu", "resnet20"])
def test_a_checkpoint_is_the_network_as_it_was(
    train: Callable[..., list[Progress]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Read back as a training stage, it gives the same logits to the last bit."""
    logits: list[Tensor] = []
    all_statistics: list[str] = []
    probe = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    real = checkpoints.save

    def noting(network: TargetModel, path: Path, **told: Any) -> None:
        logits.append(network.eval()(probe).detach())
        all_statistics.append(told["statistics"].to_json())
        real(network, path, **told)

    monkeypatch.setattr(models, "save", noting)
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path)
    stages = of(Saved, train(model=model, stages={"early": 0.5, "late": 1.0}))
    batch = load_batch(Scenario(images=str(data / "test"), composition="random", batch_size=TEST * len(COLOURS)))
    for saved, before, statistics in zip(stages, logits, all_statistics, strict=True):
        network = target_model(Scenario(model=model, stage=saved.stage))
        assert torch.equal(network(probe), before)
        with safe_open(saved.checkpoint, "pt") as file:
            told = json.loads(file.metadata()["training"])
        assert told == {"epochs": saved.epoch, "accuracy": round(saved.accuracy, 4), "validation": statistics}
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


def test_the_same_seed_learns_the_same(train: Callable[..., list[Progress]], tmp_path: Path) -> None:
    def learned(seed: int) -> tuple[list[float], bytes]:
        told = train(seed=seed, stages={"late": 1.0}, limit=12)
        return [step.loss for step in of(Step, told)], of(Saved, told)[0].checkpoint.read_bytes()

    state = torch.random.get_rng_state()
    first = learned(1)
    assert torch.equal(torch.random.get_rng_state(), state), "training moved the global generator"
    torch.rand(7)
    assert learned(1) == first
    assert learned(2)[0] != first[0]


def test_it_starts_from_the_untrained_model_of_its_seed(
    train: Callable[..., list[Progress]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Scenario] = []
    real = attack.target_model
    monkeypatch.setattr(attack, "target_model", lambda scenario: seen.append(scenario) or real(scenario))
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


# --------------------------------------------------------------------------------------------------- refusals

NAMES = "accepted are small letters, digits and single hyphens."
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "network": ({"model": "vgg"}, [f"model was 'vgg'; accepted are {', '.join(models.MODELS)}."]),
    "data set": ({"dataset": "emnist"}, [f"dataset was 'emnist'; accepted are {', '.join(datasets.DATASETS)}."]),
    "a data set without classes": (
        {"dataset": "folder"},
        [
            "dataset was 'folder', which has no classes of its own to train for; accepted are "
            f"{', '.join(name for name in datasets.DATASETS if not name.endswith('folder'))}."
        ],
    ),
    "no stages": ({"stages": {}}, ["stages was empty; name at least one with its epochs, such as late=5."]),
    "no epochs": ({"stages": {"late": 0}}, ["stages had late=0; accepted are epochs above 0 to 1000."]),
    "negative epochs": ({"stages": {"late": -1.5}}, ["stages had late=-1.5; accepted are epochs above 0 to 1000."]),
    "endless": ({"stages": {"late": float("inf")}}, ["stages had late=inf; accepted are epochs above 0 to 1000."]),
    "no number": ({"stages": {"late": float("nan")}}, ["stages had late=nan; accepted are epochs above 0 to 1000."]),
    "untrained": (
        {"stages": {"untrained": 1}},
        ["stages had 'untrained', which is what every network starts as; name the stage otherwise."],
    ),
    "a way out": ({"stages": {"../late": 1}}, [f"stages had '../late'; {NAMES}"]),
    "hyphens": ({"stages": {"x--y": 1}}, [f"stages had 'x--y'; {NAMES}"]),
    "no name": ({"stages": {"": 1}}, [f"stages had ''; {NAMES}"]),
    "image size": ({"image_size": 16}, ["image_size was 16; accepted is a number from 32 to 224."]),
    "seed": ({"seed": -1}, ["seed was -1; accepted is a number from 0 to 2147483647."]),
    "device": ({"device": "tpu"}, ["device was 'tpu'; accepted are auto, cpu, cuda and cuda:N."]),
    "limit": ({"limit": 0}, ["limit was 0; accepted is a number from 1 up."]),
    "batch size": ({"batch_size": 25}, ["batch_size was 25, there are 24 images; take at most as many."]),
    "batch size beyond the limit": (
        {"limit": 5},
        ["batch_size was 6, there are 5 images; take at most as many."],
    ),
    "everything": (
        {"batch_size": 0, "learning_rate": 0, "stages": {"late": 0}},
        [
            "stages had late=0; accepted are epochs above 0 to 1000.",
            "batch_size was 0; accepted is a number from 1 up.",
            "learning_rate was 0; accepted is a number above 0 to 10.",
        ],
    ),
}


@pytest.mark.parametrize(("changed", "problems"), REFUSED.values(), ids=REFUSED.keys())
def test_settings_that_cannot_be_trained_with(
    train: Callable[..., list[Progress]], changed: dict[str, Any], problems: list[str]
) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        train(**changed)
    assert list(refusal.value.problems) == problems


def test_folders_that_are_not_there(train: Callable[..., list[Progress]], data: Path, tmp_path: Path) -> None:
    for missing in ("train", "test"):
        folder = tmp_path / f"no {missing}"
        for split in {"train", "test"} - {missing}:
            (folder / split).mkdir(parents=True)
            shutil.copytree(data / split / "cat", folder / split / "cat")
        with pytest.raises(DatasetUnavailable) as refusal:
            train(data=folder)
        assert str(refusal.value) == (
            f"data was '{folder}', which has no folder '{missing}'; name one that has 'train' and 'test' in it, each "
            "with a folder for each class."
        )


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


def test_nowhere_to_save_is_said_before_the_work(train: Callable[..., list[Progress]]) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        train(out=Path(__file__) / "checkpoints")
    assert str(refusal.value) == (
        f"out was '{__file__}/checkpoints', which cannot be made a folder (Not a directory); name another."
    )


def test_more_images_than_memory(train: Callable[..., list[Progress]], monkeypatch: pytest.MonkeyPatch) -> None:
    available = psutil.virtual_memory()._replace(available=100_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    with pytest.raises(OutOfMemory, match=r"^36 images at 32 pixels need 0\.0 GB, there are 0\.0 GB free; make them"):
        train()


def test_a_loss_that_is_no_number_ends_the_training(
    train: Callable[..., list[Progress]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attack.target_model

    def broken(scenario: Scenario) -> TargetModel:
        network = real(scenario)
        network.head.bias.data.fill_(float("nan"))
        return network

    monkeypatch.setattr(attack, "target_model", broken)
    with pytest.raises(TrainingDiverged) as refusal:
        train()
    assert isinstance(refusal.value, DeepLeakError)
    assert str(refusal.value) == (
        "Training broke off after 0.25 epochs: the loss was nan, the norm of its gradient nan; learning_rate was 0.05, "
        "lower it."
    )
    assert list(tmp_path.iterdir()) == []
