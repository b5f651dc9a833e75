"""Train a target model by SGD on a folder of class folders, and save checkpoints at chosen stages.

`train` is a generator of `Progress`. The metadata of a checkpoint hold the epochs, the accuracy on test images and the
mean predictions for each class; `checkpoints.stages` lists it from then on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from deepleak_core.data import datasets
from deepleak_core.data.datasets import DATASETS
from deepleak_core.data.images import to_tensor
from deepleak_core.data.items import Items
from deepleak_core.errors import DatasetUnavailable, OutOfMemory, TrainingDiverged, UnsupportedScenario
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import choose_device, target_model
from deepleak_core.federated.checks import problems_of_client, problems_of_device
from deepleak_core.federated.class_statistics import ClassStatistics
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.scenario import Scenario

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
LARGEST_GRADIENT = 5.0  # norm at which gradients are clipped: networks without BatchNorm diverge at first otherwise
MOST_EPOCHS = 1000
TEST_BATCH = 250  # images in one forward pass of the accuracy test
REPORTS = 100  # events of progress while one folder is read


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The images of `folder` ("train" or "test") are being read; `done` in [0, 1] is the share read so far."""

    folder: str
    done: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of training: epochs so far, loss of the mini-batch, and the share of all steps in [0, 1]."""

    epoch: float
    loss: float
    done: float


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint was written; `accuracy` in [0, 1] is that on the test images, `done` the share of all steps."""

    stage: str
    checkpoint: Path
    epoch: float
    accuracy: float
    done: float


Progress = Reading | Step | Saved


def train(
    model: str,
    *,
    data: Path,
    stages: Mapping[str, float],
    dataset: str = "cifar10-samples",
    image_size: int = 32,
    batch_size: int = 64,
    learning_rate: float = 0.05,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    out: Path | None = None,
) -> Iterator[Progress]:
    """Train a network from its untrained weights, and yield progress.

    SGD with Nesterov momentum and weight decay; images are mirrored at random, and the learning rate falls to zero
    along half a cosine. Deterministic for a fixed seed on the same device.

    Args:
        model: name in `MODELS`.
        data: folder with the folders "train" and "test", each with a folder of images for each class.
        stages: epochs of each checkpoint by its name, such as {"early": 0.5, "late": 5}.
        dataset: name in `DATASETS` whose classes and normalisation are used.
        image_size: height and width in pixels.
        batch_size: images in a mini-batch.
        learning_rate: the learning rate at the start.
        limit: take only so many images of each folder, drawn by the seed.
        seed: determines the initial weights, the images drawn, their order and their mirroring.
        device: auto, cpu, cuda or cuda:N.
        out: folder of the checkpoints, `checkpoints.own_folder()` if not given.

    Raises:
        UnsupportedScenario: A setting is not accepted.
        DatasetUnavailable: Images are missing or cannot be read.
        OutOfMemory: The images do not fit into memory.
        TrainingDiverged: The loss is not finite any more.
    """
    scenario = Scenario(
        model=model, dataset=dataset, images=str(data / "train"), image_size=image_size, seed=seed, device=device
    )
    _check(scenario, stages, batch_size, learning_rate, limit)
    train_items, test_items = (_items(scenario, data, folder) for folder in ("train", "test"))
    _check_size(scenario, len(train_items.labels[:limit]), len(test_items.labels[:limit]), batch_size)
    folder = checkpoints.own_folder() if out is None else out
    _make(folder)
    images, labels = yield from _read("train", train_items, limit, scenario)
    test_images, test_labels = yield from _read("test", test_items, limit, scenario)

    network = target_model(scenario).to(choose_device(scenario))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = True  # `build` switches it off for models under attack
    due = {stage: max(1, round(epochs * len(images) / batch_size)) for stage, epochs in stages.items()}
    steps = max(due.values())
    optimizer = torch.optim.SGD(
        network.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(scenario.seed_for("training"))
    batches = _batches(len(images), batch_size, generator)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        for step in range(1, steps + 1):
            chosen = next(batches)
            loss = _loss(network, _mirrored(images[chosen], generator), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
            epoch = step * batch_size / len(images)
            if not (loss.isfinite() and norm.isfinite()):
                raise TrainingDiverged(
                    f"Training diverged after {epoch:.2g} epochs: the loss was {float(loss.detach()):.3g}, the norm "
                    f"of its gradient {float(norm):.3g}; learning_rate was {learning_rate:g}, lower it."
                )
            optimizer.step()
            schedule.step()
            yield Step(epoch=epoch, loss=float(loss.detach()), done=step / steps)
            for stage in (stage for stage, at in due.items() if at == step):
                accuracy, statistics = validate(network, test_images, test_labels)
                checkpoint = folder / checkpoints.checkpoint_name(model, DATASETS[dataset].vocabulary, stage)
                checkpoints.save(network, checkpoint, epochs=epoch, accuracy=accuracy, statistics=statistics)
                yield Saved(stage=stage, checkpoint=checkpoint, epoch=epoch, accuracy=accuracy, done=step / steps)


def validate(network: TargetModel, images: Tensor, labels: Tensor) -> tuple[float, ClassStatistics]:
    """The accuracy in [0, 1] on uint8 images (N, C, H, W) with labels (N,), and the mean predictions for each class.

    BatchNorm layers use their running statistics.
    """
    network.eval()
    with torch.no_grad():
        parts = [_logits(network, part).cpu().double().softmax(1) for part in torch.split(images, TEST_BATCH)]
    probabilities = torch.cat(parts)
    accuracy = float((probabilities.argmax(1) == labels).double().mean())
    return accuracy, ClassStatistics.of(probabilities, labels)


def _loss(network: TargetModel, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of a mini-batch; updates the running statistics of BatchNorm layers."""
    network.train()
    return cross_entropy(_logits(network, images), labels.to(network.mean.device))


def _logits(network: TargetModel, images: Tensor) -> Tensor:
    """uint8 images (B, C, H, W) to logits (B, C) on the network's device."""
    logits: Tensor = network(images.to(network.mean.device).float() / 255)
    return logits


def _batches(images: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless mini-batches, as indices (batch_size,): every image comes once before any image comes again."""
    order = torch.randperm(images, generator=generator)
    while True:
        if len(order) < batch_size:
            order = torch.cat([order, torch.randperm(images, generator=generator)])
        yield order[:batch_size]
        order = order[batch_size:]


def _mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored with probability 1/2."""
    chance = torch.rand(len(images), 1, 1, 1, generator=generator)
    return torch.where(chance < 0.5, images.flip(-1), images)


# ------------------------------------------------------------------------------------------ data and refusals


def _items(scenario: Scenario, data: Path, folder: str) -> Items:
    """The labelled images of `data/folder`."""
    if not (data / folder).is_dir():
        raise DatasetUnavailable(
            f"data was {str(data)!r}, which has no folder {folder!r}; name one that has 'train' and 'test' in it, "
            "each with a folder for each class."
        )
    return datasets.items(scenario.changed(images=str(data / folder)))


def _read(
    folder: str, items: Items, limit: int | None, scenario: Scenario
) -> Generator[Reading, None, tuple[Tensor, Tensor]]:
    """Images (N, C, H, W), uint8 to save memory, and labels (N,), in an order drawn by the seed."""
    generator = torch.Generator().manual_seed(scenario.seed_for(f"{folder} images"))
    drawn = torch.randperm(len(items.labels), generator=generator)[:limit].tolist()
    size, channels = scenario.image_size, datasets.dataset_of(scenario).channels
    images = torch.empty(len(drawn), channels, size, size, dtype=torch.uint8)
    for position, item in enumerate(drawn):
        if position % math.ceil(len(drawn) / REPORTS) == 0:
            yield Reading(folder=folder, done=position / len(drawn))
        images[position] = (to_tensor(items.read(item), size, channels) * 255).round().to(torch.uint8)
    return images, torch.tensor([items.labels[item] for item in drawn])


def _check(
    scenario: Scenario, stages: Mapping[str, float], batch_size: int, learning_rate: float, limit: int | None
) -> None:
    """Raise `UnsupportedScenario` with every reason why training with these settings is not possible."""
    problems = problems_of_client(scenario) + problems_of_device(scenario)
    with_classes = [name for name, dataset in DATASETS.items() if dataset.class_names]
    if scenario.dataset in DATASETS and scenario.dataset not in with_classes:
        problems.append(
            f"dataset was {scenario.dataset!r}, which has no classes of its own to train for; "
            f"accepted are {', '.join(with_classes)}."
        )
    problems += _problems_of_stages(stages)
    if batch_size < 1:
        problems.append(f"batch_size was {batch_size}; accepted is a number from 1 up.")
    if not 0 < learning_rate <= 10:
        problems.append(f"learning_rate was {learning_rate:g}; accepted is a number above 0 to 10.")
    if limit is not None and limit < 1:
        problems.append(f"limit was {limit}; accepted is a number from 1 up.")
    if problems:
        raise UnsupportedScenario(problems)


def _problems_of_stages(stages: Mapping[str, float]) -> list[str]:
    problems = []
    if not stages:
        problems.append("stages was empty; name at least one with its epochs, such as late=5.")
    for stage, epochs in stages.items():
        if stage == "untrained":
            problems.append("stages had 'untrained', the name of the initial weights; choose another name.")
        elif not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", stage):
            problems.append(f"stages had {stage!r}; accepted are small letters, digits and single hyphens.")
        if not 0 < epochs <= MOST_EPOCHS:
            problems.append(f"stages had {stage}={epochs:g}; accepted are epochs above 0 to {MOST_EPOCHS}.")
    return problems


def _make(out: Path) -> None:
    """Make the folder of the checkpoints before the training starts."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnsupportedScenario(
            [f"out was {str(out)!r}, which cannot be made a folder ({error.strerror}); name another."]
        ) from error


def _check_size(scenario: Scenario, images: int, test_images: int, batch_size: int) -> None:
    """Refuse, before any image is read, a mini-batch larger than the data and data larger than memory."""
    if batch_size > images:
        raise UnsupportedScenario([f"batch_size was {batch_size}, there are {images} images; take at most as many."])
    needed = (images + test_images) * datasets.dataset_of(scenario).channels * scenario.image_size**2
    available = psutil.virtual_memory().available
    if needed > available:
        raise OutOfMemory(
            f"{images + test_images} images at {scenario.image_size} pixels need {needed / 1e9:.1f} GB, there are "
            f"{available / 1e9:.1f} GB free; make them smaller, or set a limit to their number."
        )
