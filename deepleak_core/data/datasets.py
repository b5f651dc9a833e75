"""The registry of data sets: bundled samples, downloads, own folders of images.

To add one, write a function from a scenario to its `Items` and add an entry to `DATASETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torchvision
from torchvision.models import ResNet18_Weights

from deepleak_core.data.class_names import (
    CIFAR10_CLASSES,
    CIFAR100_CLASSES,
    FASHION_MNIST_CLASSES,
    MNIST_CLASSES,
)
from deepleak_core.data.downloads import download, downloaded
from deepleak_core.data.folders import matched_items, own_classes, own_items
from deepleak_core.data.items import Items
from deepleak_core.data.samples import samples
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import Downloading
from deepleak_core.scenario import FOLDER_DATASETS, Scenario
from deepleak_core.text import unknown

IMAGENET_CLASSES = tuple(ResNet18_Weights.DEFAULT.meta["categories"])

CIFAR_STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100_STATISTICS = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY_STATISTICS = ((0.449,), (0.226,))  # ImageNet's, averaged over the channels
MNIST_STATISTICS = ((0.1307,), (0.3081,))
FASHION_MNIST_STATISTICS = ((0.2860,), (0.3530,))


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One entry of the registry.

    Attributes:
        title: name on pages.
        summary: one sentence on what it holds.
        vocabulary: name of the set of classes; checkpoints are trained on one.
        class_names: class names by index; empty where class folders give them.
        statistics: mean and standard deviation of each channel, for pixels in [0, 1].
        items: its labelled images. Raises `DatasetUnavailable` where they cannot be had.
        download: fetches what `items` needs, None where nothing has to be downloaded.
        bundled: whether it comes with the installation.
        sizes: heights in pixels that suit its images, the usual one first; empty for images of 32 pixels or fewer.
    """

    title: str
    summary: str
    vocabulary: str
    class_names: tuple[str, ...]
    statistics: tuple[Sequence[float], Sequence[float]]
    items: Callable[[Scenario], Items]
    download: Callable[[Scenario], Iterator[Downloading]] | None = None
    bundled: bool = False
    sizes: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of its images: 3 for RGB, 1 for greyscale."""
        return len(self.statistics[0])


def _samples(prefix: str) -> Callable[[Scenario], Items]:
    return lambda scenario: samples(prefix)


def _own_folder(scenario: Scenario) -> Items:
    assert scenario.images is not None  # `Scenario` refuses this data set without
    return own_items(scenario.images)


DATASETS: dict[str, Dataset] = {
    "cifar10-samples": Dataset(
        title="CIFAR-10 samples",
        summary="20 real CIFAR-10 images, bundled, offline.",
        vocabulary="cifar10",
        class_names=CIFAR10_CLASSES,
        statistics=CIFAR_STATISTICS,
        items=_samples("cifar10"),
        bundled=True,
    ),
    "cifar100-samples": Dataset(
        title="CIFAR-100 samples",
        summary="20 real CIFAR-100 images of 18 of its 100 classes, bundled, offline.",
        vocabulary="cifar100",
        class_names=CIFAR100_CLASSES,
        statistics=CIFAR100_STATISTICS,
        items=_samples("cifar100"),
        bundled=True,
    ),
    "imagenet-samples": Dataset(
        title="ImageNet samples",
        summary="20 real ImageNet photos of 19 of its 1000 classes, bundled, offline.",
        vocabulary="imagenet",
        class_names=IMAGENET_CLASSES,
        statistics=IMAGENET_STATISTICS,
        items=_samples("imagenet"),
        bundled=True,
        sizes=(64, 96, 224),
    ),
    "mnist-samples": Dataset(
        title="MNIST samples",
        summary="20 real MNIST digits, greyscale, bundled, offline.",
        vocabulary="mnist",
        class_names=MNIST_CLASSES,
        statistics=MNIST_STATISTICS,
        items=_samples("mnist"),
        bundled=True,
    ),
    "fashion-mnist-samples": Dataset(
        title="Fashion-MNIST samples",
        summary="20 real Fashion-MNIST images, greyscale, bundled, offline.",
        vocabulary="fashion-mnist",
        class_names=FASHION_MNIST_CLASSES,
        statistics=FASHION_MNIST_STATISTICS,
        items=_samples("fashionMNIST"),
        bundled=True,
    ),
    "cifar10": Dataset(
        title="CIFAR-10",
        summary="The 10,000 test images; 170 MB are downloaded once.",
        vocabulary="cifar10",
        class_names=CIFAR10_CLASSES,
        statistics=CIFAR_STATISTICS,
        items=partial(downloaded, torchvision.datasets.CIFAR10),
        download=partial(download, torchvision.datasets.CIFAR10),
    ),
    "cifar100": Dataset(
        title="CIFAR-100",
        summary="The 10,000 test images; 169 MB are downloaded once.",
        vocabulary="cifar100",
        class_names=CIFAR100_CLASSES,
        statistics=CIFAR100_STATISTICS,
        items=partial(downloaded, torchvision.datasets.CIFAR100),
        download=partial(download, torchvision.datasets.CIFAR100),
    ),
    "mnist": Dataset(
        title="MNIST",
        summary="The 10,000 test digits, greyscale; 2 MB are downloaded once.",
        vocabulary="mnist",
        class_names=MNIST_CLASSES,
        statistics=MNIST_STATISTICS,
        items=partial(downloaded, torchvision.datasets.MNIST),
        download=partial(download, torchvision.datasets.MNIST),
    ),
    "fashion-mnist": Dataset(
        title="Fashion-MNIST",
        summary="The 10,000 test images, greyscale; 4 MB are downloaded once.",
        vocabulary="fashion-mnist",
        class_names=FASHION_MNIST_CLASSES,
        statistics=FASHION_MNIST_STATISTICS,
        items=partial(downloaded, torchvision.datasets.FashionMNIST),
        download=partial(download, torchvision.datasets.FashionMNIST),
    ),
    "folder": Dataset(
        title="Own folder",
        summary="Your own images in RGB: a folder with one folder a class, whose names become the classes.",
        vocabulary="folder",
        class_names=(),
        statistics=IMAGENET_STATISTICS,
        items=_own_folder,
        sizes=(32, 64, 96, 224),
    ),
    "grey-folder": Dataset(
        title="Own folder, greyscale",
        summary="Your own images in greyscale: a folder with one folder a class; colours are converted.",
        vocabulary="folder",
        class_names=(),
        statistics=GREY_STATISTICS,
        items=_own_folder,
        sizes=(32, 64, 96, 224),
    ),
}


def dataset_of(scenario: Scenario) -> Dataset:
    """The registry entry of a scenario. Raises `UnsupportedScenario` naming the known data sets."""
    if scenario.dataset not in DATASETS:
        raise UnsupportedScenario([unknown("dataset", scenario.dataset, DATASETS)])
    return DATASETS[scenario.dataset]


def names_of_classes(scenario: Scenario) -> tuple[str, ...]:
    """Class names by index; a data set without any takes the names of the class folders."""
    names = dataset_of(scenario).class_names
    return names if names or scenario.images is None else own_classes(scenario.images)


def prepare(scenario: Scenario) -> Iterator[Downloading]:
    """Download the data set where needed, with progress. Raises `DatasetUnavailable`."""
    fetch = dataset_of(scenario).download
    if fetch is not None and scenario.images is None:
        yield from fetch(scenario)


def items(scenario: Scenario) -> Items:
    """All labelled images that a scenario may pick from: those of its folder if it names one, else its data set's."""
    dataset = dataset_of(scenario)
    if scenario.images is not None and dataset.class_names:
        return matched_items(scenario.images, dataset.class_names, scenario.dataset, _own_choice(dataset.channels))
    return dataset.items(scenario)


def _own_choice(channels: int) -> str:
    """How to choose the data set of own folders with so many channels, in the app and on the command line."""
    name = next(name for name in FOLDER_DATASETS if DATASETS[name].channels == channels)
    return f'data set "{DATASETS[name].title}" (--dataset {name})'
