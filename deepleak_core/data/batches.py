"""Private batches: which images of a data set a scenario picks, and their pixels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepleak_core.data.class_names import class_index, unclear_in_list
from deepleak_core.data.datasets import dataset_of, items, names_of_classes
from deepleak_core.data.images import to_tensor
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.scenario import COMPOSITIONS, Scenario
from deepleak_core.text import listed, printable, shorten

MOST_PROBLEMS = 3  # sentences of one refusal
DIRICHLET = 0.5  # concentration of class shares in a skewed batch; federated learning is simulated with 0.1 to 1


@dataclass(frozen=True)
class GroundTruth:
    """The private batch of a client.

    Attributes:
        images: (B, C, H, W) float32 in [0, 1], multiples of 1/255.
        labels: (B,) int64.
        class_names: names of all classes, by index.
        indices: number of each image in its data set.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    indices: tuple[int, ...]


def load_batch(scenario: Scenario, *, draw: int = 0) -> GroundTruth:
    """Load the private batch of a scenario; `draw` numbers repeated draws of the same scenario.

    Raises:
        UnsupportedScenario: the data set has too few images, or no such image or class.
        DatasetUnavailable: the data set, its folder or one of its files cannot be read.

    >>> batch = load_batch(Scenario(indices=(0, 1, 3, 4)))
    >>> batch.images.shape, [batch.class_names[y] for y in batch.labels]
    (torch.Size([4, 3, 32, 32]), ['cat', 'ship', 'airplane', 'frog'])
    """
    source, channels = items(scenario), dataset_of(scenario).channels
    indices = pick(scenario, source.labels, draw=draw, left_out=source.left_out)
    images = torch.stack([to_tensor(source.read(i), scenario.image_size, channels) for i in indices])
    labels = torch.tensor([source.labels[i] for i in indices])
    return GroundTruth(images, labels, names_of_classes(scenario), indices)


def labels_of_batch(scenario: Scenario) -> list[int]:
    """The labels of the private batch, without reading its images. Raises what `load_batch` does.

    >>> labels_of_batch(Scenario(indices=(0, 1, 3, 4)))
    [3, 8, 0, 6]
    """
    source = items(scenario)
    return [source.labels[i] for i in pick(scenario, source.labels, left_out=source.left_out)]


def pick(scenario: Scenario, labels: Sequence[int], *, draw: int = 0, left_out: Sequence[str] = ()) -> tuple[int, ...]:
    """Pick the images of the batch: by index, by a list of labels, or by composition and seed.

    Args:
        scenario: says which images.
        labels: class index of each image of the data set.
        draw: number of the draw, where a scenario is drawn from repeatedly.
        left_out: files that are not counted as images, named where there are too few images.

    Returns:
        Numbers of the images. Raises `UnsupportedScenario` where there are too few.

    >>> labels = [3, 8, 8, 0, 6, 6]
    >>> sorted(labels[i] for i in pick(Scenario(labels=("ship", "8", "cat")), labels))
    [3, 8, 8]
    >>> len({labels[i] for i in pick(Scenario(composition="same", batch_size=2), labels)})
    1
    """
    try:
        return _picked(scenario, labels, np.random.default_rng([scenario.seed_for("batch"), draw]))
    except _TooFewImages as error:
        others = f" Left out were {listed(left_out, 3)}, in no accepted format." if left_out else ""
        raise UnsupportedScenario([f"{_source(scenario)} {error}{others}"]) from error


class _TooFewImages(Exception):
    """What a data set does not have, and what to do."""


def _picked(scenario: Scenario, labels: Sequence[int], rng: np.random.Generator) -> tuple[int, ...]:
    if scenario.indices is not None:
        _check_indices(scenario.indices, len(labels))
        return scenario.indices
    if scenario.composition == "random":
        if scenario.batch_size > len(labels):
            raise _too_few(scenario, f"it has {len(labels)}")
        return tuple(rng.choice(len(labels), scenario.batch_size, replace=False).tolist())
    by_class: dict[int, list[int]] = defaultdict(list)
    for i in rng.permutation(len(labels)).tolist():
        by_class[labels[i]].append(i)
    if scenario.labels is not None:
        wanted = _wanted_labels(scenario, scenario.labels, by_class)
    else:
        wanted = _composed_labels(scenario, Counter({c: len(i) for c, i in by_class.items()}), rng)
    return tuple(by_class[c].pop() for c in wanted)


def _source(scenario: Scenario) -> str:
    return printable(scenario.images or scenario.dataset)


def _check_indices(indices: Sequence[int], images: int) -> None:
    beyond = [str(index) for index in indices if index >= images]
    if beyond:
        raise _TooFewImages(f"has the images 0 to {images - 1}, indices had {listed(beyond, 3)}; name others.")


def _wanted_labels(scenario: Scenario, asked: Sequence[str], by_class: Mapping[int, Sequence[int]]) -> list[int]:
    """The classes that were named. Refuses a name that is no class, and more images of a class than there are."""
    names = names_of_classes(scenario)
    found = {name: class_index(name, names) for name in asked}
    if problems := [unclear_in_list("labels", name, names) for name, label in found.items() if label is None]:
        raise UnsupportedScenario(problems[:MOST_PROBLEMS])
    wanted = [label for name in asked if (label := found[name]) is not None]
    for label, number in Counter(wanted).items():
        if number > (available := len(by_class.get(label, ()))):
            raise _TooFewImages(
                f"has {available} images of {shorten(names[label])}, labels ask for {number}; ask for fewer."
            )
    return wanted


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
    left = sorted(available)
    for size in groups:
        fitting = [position for position, c in enumerate(left) if available[c] >= size]
        if not fitting:
            several = f"{size} images" if size > 1 else "an image left"
            raise _too_few(scenario, f"no {'further ' if wanted else ''}class has {several}")
        wanted += [left.pop(fitting[int(rng.choice(len(fitting)))])] * size
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


def _too_few(scenario: Scenario, why: str) -> _TooFewImages:
    composition = COMPOSITIONS[scenario.composition or "distinct"]
    return _TooFewImages(f"cannot give {scenario.batch_size} images ({composition}): {why}; make the batch smaller.")
