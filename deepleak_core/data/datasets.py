"""Where private batches come from: bundled samples, downloads by torchvision, folders of images.

A data set gives a list of labelled images and the names of its classes; `load_batch` picks from it what a
scenario asks for. To add one, write a function from a scenario to its `Items` and add one line to `DATASETS`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image, ImageOps
from torch import Tensor

from deepleak_core.data.class_names import CIFAR10_CLASSES, CIFAR100_CLASSES, IMAGENET_CLASSES
from deepleak_core.data.downloads import fetch
from deepleak_core.errors import DatasetUnavailable, UnsupportedScenario
from deepleak_core.events import Downloading
from deepleak_core.scenario import COMPOSITIONS, Scenario

DIRICHLET = 0.5  # concentration of class shares in a skewed batch; federated learning is simulated with 0.1 to 1
MAX_PIXELS = 50_000_000  # of one image file, before decoding
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

CIFAR_STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100_STATISTICS = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Items:
    """The labelled images of a data set: `labels[i]` belongs to `read(i)`, a PIL image."""

    labels: tuple[int, ...]
    read: Callable[[int], Image.Image]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One line of the registry. `vocabulary` names the set of classes (checkpoints are trained on one)."""

    title: str
    summary: str
    vocabulary: str
    class_names: tuple[str, ...]
    statistics: tuple[Sequence[float], Sequence[float]]
    items: Callable[[Scenario], Items]
    bundled: bool = False


@dataclass(frozen=True)
class PrivateBatch:
    """The client's secret: images (B, 3, H, W) in [0, 1], labels (B,) int64, and what the classes are called."""

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    indices: tuple[int, ...]


# ---------------------------------------------------------------------------------------- sources of images


@cache
def _sample_files(prefix: str) -> tuple[tuple[Path, int], ...]:
    """foolbox ships 20 real images of each data set; they are read as files, foolbox is never imported."""
    spec = importlib.util.find_spec("foolbox")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetUnavailable(
            "The bundled samples come with the package foolbox, which is not installed; pip install foolbox."
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    pattern = re.compile(rf"{prefix}_(\d+)_(\d+)\.(png|jpg)")
    found = ((path, pattern.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return tuple((path, int(name[2])) for path, name in found if name)


def _samples(prefix: str) -> Callable[[Scenario], Items]:
    def items(scenario: Scenario) -> Items:
        files = _sample_files(prefix)
        return Items(tuple(label for _, label in files), lambda i: open_image(files[i][0]))

    return items


def data_folder() -> Path:
    """Where downloads are kept: `DEEPLEAK_DATA`, or the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "deepleak"
    return Path(os.environ.get("DEEPLEAK_DATA", default))


def _downloaded(kind: type[Any]) -> Callable[[Scenario], Items]:
    """The test split of a torchvision data set, which `prepare` has downloaded."""

    def items(scenario: Scenario) -> Items:
        try:
            data = kind(data_folder(), train=False)
        except RuntimeError as error:
            raise DatasetUnavailable(
                f"{scenario.dataset} is not in {data_folder()} yet ({error}); the bundled samples work offline."
            ) from error
        return Items(tuple(data.targets), lambda i: Image.fromarray(data.data[i]))

    return items


def folder_classes(folder: str | Path) -> tuple[str, ...]:
    """The class folders below a folder, sorted. Raises `DatasetUnavailable` when there are none."""
    path = Path(folder)
    if not path.is_dir():
        raise DatasetUnavailable(f"images was {str(folder)!r}, which is no folder; name a folder of class folders.")
    names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir()))
    if not names:
        raise DatasetUnavailable(
            f"{path} has no class folders; put the images of each class into a folder named after it."
        )
    return names


def class_index(name: str, class_names: Sequence[str]) -> int | None:
    """The class a name means: a class name in any spelling, or a number at its start.

    >>> class_index("Sweet-Pepper", ("apple", "sweet_pepper")), class_index("001_n0144_tench", ("a", "b"))
    (1, 1)
    """

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()

    plain_names = [plain(known) for known in class_names]
    if plain(name) in plain_names:
        return plain_names.index(plain(name))
    number = re.match(r"\d+", name)
    if number and int(number[0]) < len(class_names):
        return int(number[0])
    return None


def _folder(scenario: Scenario) -> Items:
    """ImageFolder's layout: one folder a class, matched to the data set's classes by name or number."""
    assert scenario.images is not None
    class_names = names_of_classes(scenario)
    files: list[tuple[Path, int]] = []
    unknown = []
    for name in folder_classes(scenario.images):
        label = class_index(name, class_names)
        if label is None:
            unknown.append(name)
            continue
        paths = sorted((Path(scenario.images) / name).iterdir())
        files += [(path, label) for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    if unknown:
        raise DatasetUnavailable(
            f"{scenario.images} has class folders that {scenario.dataset} does not know: "
            f"{', '.join(unknown[:5])}; name them after its classes or their numbers, or take dataset 'folder'."
        )
    if not files:
        raise DatasetUnavailable(f"{scenario.images} holds no images; accepted are {' '.join(sorted(IMAGE_SUFFIXES))}.")
    return Items(tuple(label for _, label in files), lambda i: open_image(files[i][0]))


DATASETS: dict[str, Dataset] = {
    "cifar10-samples": Dataset(
        title="CIFAR-10 samples",
        summary="20 real CIFAR-10 images, on board, offline.",
        vocabulary="cifar10",
        class_names=CIFAR10_CLASSES,
        statistics=CIFAR_STATISTICS,
        items=_samples("cifar10"),
        bundled=True,
    ),
    "cifar100-samples": Dataset(
        title="CIFAR-100 samples",
        summary="20 real CIFAR-100 images of 18 of its 100 classes, on board, offline.",
        vocabulary="cifar100",
        class_names=CIFAR100_CLASSES,
        statistics=CIFAR100_STATISTICS,
        items=_samples("cifar100"),
        bundled=True,
    ),
    "imagenet-samples": Dataset(
        title="ImageNet samples",
        summary="20 real ImageNet photos of 19 of its 1000 classes, on board, offline.",
        vocabulary="imagenet",
        class_names=IMAGENET_CLASSES,
        statistics=IMAGENET_STATISTICS,
        items=_samples("imagenet"),
        bundled=True,
    ),
    "cifar10": Dataset(
        title="CIFAR-10",
        summary="The 10,000 test images; 170 MB are downloaded once.",
        vocabulary="cifar10",
        class_names=CIFAR10_CLASSES,
        statistics=CIFAR_STATISTICS,
        items=_downloaded(torchvision.datasets.CIFAR10),
    ),
    "cifar100": Dataset(
        title="CIFAR-100",
        summary="The 10,000 test images; 169 MB are downloaded once.",
        vocabulary="cifar100",
        class_names=CIFAR100_CLASSES,
        statistics=CIFAR100_STATISTICS,
        items=_downloaded(torchvision.datasets.CIFAR100),
    ),
    "folder": Dataset(
        title="Own folder",
        summary="Your own images: a folder with one folder a class, whose names become the classes.",
        vocabulary="folder",
        class_names=(),
        statistics=IMAGENET_STATISTICS,
        items=_folder,
    ),
}
TORCHVISION: dict[str, type[Any]] = {
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
}


# ------------------------------------------------------------------------------------------- what runs call


def dataset_of(scenario: Scenario) -> Dataset:
    """The registry line. Raises `UnsupportedScenario` naming the known data sets."""
    if scenario.dataset not in DATASETS:
        raise UnsupportedScenario([f"dataset was {scenario.dataset!r}; accepted are {', '.join(DATASETS)}."])
    return DATASETS[scenario.dataset]


def names_of_classes(scenario: Scenario) -> tuple[str, ...]:
    """Class names by index; those of dataset 'folder' are its folders."""
    if scenario.dataset == "folder" and scenario.images:
        return folder_classes(scenario.images)
    return dataset_of(scenario).class_names


def prepare(scenario: Scenario) -> Iterator[Downloading]:
    """Download the data set if it must be, telling how far it is. Raises `DatasetUnavailable`."""
    kind = TORCHVISION.get(dataset_of(scenario).vocabulary)
    if kind is None or scenario.images or dataset_of(scenario).bundled:
        return
    root = data_folder()
    try:
        if not (root / kind.base_folder).is_dir():
            yield from fetch(scenario.dataset, kind.url, root / kind.filename, md5=kind.tgz_md5)
        kind(root, train=False, download=True)
    except (OSError, RuntimeError) as error:
        raise DatasetUnavailable(
            f"{scenario.dataset} could not be downloaded from {kind.url} ({error}); "
            f"the bundled {scenario.dataset}-samples work offline."
        ) from error


def items(scenario: Scenario) -> Items:
    """All labelled images a scenario may pick from: its folder if it names one, else its data set."""
    return _folder(scenario) if scenario.images else dataset_of(scenario).items(scenario)


def load_batch(scenario: Scenario, *, draw: int = 0) -> PrivateBatch:
    """The private batch a scenario asks for; `draw` numbers repeated draws of the same scenario.

    >>> batch = load_batch(Scenario(indices=(0, 1, 3, 4)))
    >>> batch.images.shape, [batch.class_names[y] for y in batch.labels]
    (torch.Size([4, 3, 32, 32]), ['cat', 'ship', 'airplane', 'frog'])
    """
    source = items(scenario)
    indices = pick(scenario, source.labels, draw=draw)
    images = torch.stack([to_tensor(source.read(i), scenario.image_size) for i in indices])
    labels = torch.tensor([source.labels[i] for i in indices])
    return PrivateBatch(images, labels, names_of_classes(scenario), indices)


def pick(scenario: Scenario, labels: Sequence[int], *, draw: int = 0) -> tuple[int, ...]:
    """Which images make the batch: by index, by a list of labels, or by composition and seed.

    >>> labels = [3, 8, 8, 0, 6, 6]
    >>> sorted(labels[i] for i in pick(Scenario(labels=("ship", "8", "cat")), labels))
    [3, 8, 8]
    >>> len({labels[i] for i in pick(Scenario(composition="same", batch_size=2), labels)})
    1
    """
    rng = np.random.default_rng([scenario.seed_for("batch"), draw])
    if scenario.indices is not None:
        if max(scenario.indices) >= len(labels):
            raise UnsupportedScenario(
                [
                    f"indices were {','.join(map(str, scenario.indices))}; "
                    f"{scenario.images or scenario.dataset} has the images 0 to {len(labels) - 1}."
                ]
            )
        return scenario.indices
    if scenario.composition == "random":
        if scenario.batch_size > len(labels):
            raise _too_few(scenario, f"it has {len(labels)}")
        return tuple(rng.choice(len(labels), scenario.batch_size, replace=False).tolist())
    by_class: dict[int, list[int]] = defaultdict(list)
    for i in rng.permutation(len(labels)).tolist():
        by_class[labels[i]].append(i)
    if scenario.labels is not None:
        wanted = _wanted_labels(scenario)
    else:
        wanted = _composed_labels(scenario, Counter({c: len(i) for c, i in by_class.items()}), rng)
    short = [c for c, n in Counter(wanted).items() if n > len(by_class[c])]
    if short:
        names = names_of_classes(scenario)
        raise UnsupportedScenario(
            [
                f"labels ask for {Counter(wanted)[short[0]]} images of {names[short[0]]}, "
                f"{scenario.images or scenario.dataset} has {len(by_class[short[0]])}; ask for fewer."
            ]
        )
    return tuple(by_class[c].pop() for c in wanted)


def _wanted_labels(scenario: Scenario) -> list[int]:
    names = names_of_classes(scenario)
    found = {name: class_index(name, names) for name in scenario.labels or ()}
    unknown = [name for name, label in found.items() if label is None]
    if unknown:
        raise UnsupportedScenario(
            [
                f"labels had {', '.join(unknown)}; {scenario.dataset} knows the classes "
                f"{', '.join(names[:10])}{' ...' if len(names) > 10 else ''} or their numbers."
            ]
        )
    return [found[name] for name in scenario.labels or ()]  # type: ignore[misc]


def _composed_labels(scenario: Scenario, available: Counter[int], rng: np.random.Generator) -> list[int]:
    """How often each class is wanted: sizes of the groups of equal labels, largest first; or a skewed draw."""
    n = scenario.batch_size
    if scenario.composition == "skewed":
        return _skewed_labels(scenario, available, rng)
    groups = {
        "distinct": [1] * n,
        "pair": [2] + [1] * (n - 2),
        "half": [n // 2] * 2,
        "same": [n],
    }[scenario.composition or "distinct"]
    wanted: list[int] = []
    for size in groups:
        fitting = [c for c in sorted(available) if available[c] >= size and c not in wanted]
        if not fitting:
            several = f"{size} images" if size > 1 else "an image left"
            raise _too_few(scenario, f"no {'further ' if wanted else ''}class has {several}")
        wanted += [int(rng.choice(fitting))] * size
    return wanted


def _skewed_labels(scenario: Scenario, available: Counter[int], rng: np.random.Generator) -> list[int]:
    """Labels drawn with class shares from a Dirichlet distribution: few classes make most of the batch."""
    left = np.array([available[c] for c in sorted(available)])
    if scenario.batch_size > left.sum():
        raise _too_few(scenario, f"it has {left.sum()}")
    shares = rng.dirichlet(np.full(len(left), DIRICHLET)) + 1e-9
    wanted = []
    for _ in range(scenario.batch_size):
        chances = shares * (left > 0)
        wanted.append(int(rng.choice(len(left), p=chances / chances.sum())))
        left[wanted[-1]] -= 1
    classes = sorted(available)
    return [classes[i] for i in wanted]


def _too_few(scenario: Scenario, why: str) -> UnsupportedScenario:
    return UnsupportedScenario(
        [
            f"{scenario.images or scenario.dataset} cannot give {scenario.batch_size} images "
            f"({COMPOSITIONS[scenario.composition or 'distinct']}): {why}; make the batch smaller."
        ]
    )


def open_image(path: Path) -> Image.Image:
    """A file as RGB image: size checked before decoding, orientation applied, metadata dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DatasetUnavailable(
                        f"{path.name} has {image.width * image.height / 1e6:.0f} million pixels, "
                        f"the limit is {MAX_PIXELS / 1e6:.0f} million; make it smaller."
                    )
                upright = ImageOps.exif_transpose(image).convert("RGB")
                return Image.frombytes("RGB", upright.size, upright.tobytes())  # pixels and nothing else
    except (OSError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetUnavailable(
            f"{path.name} could not be read as an image ({error}); accepted are JPEG and PNG files."
        ) from error


def to_tensor(image: Image.Image, size: int) -> Tensor:
    """A PIL image, centre-cropped to a square and scaled to `size`, as (3, size, size) in [0, 1]."""
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return pixels.permute(2, 0, 1).float() / 255
