"""Private batches: which images of a data set a scenario picks, and their pixels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepleak_core.data.class_names import class_index
from deepleak_core.data.datasets import dataset_of, items, names_of_classes
from deepleak_core.data.images import to_tensor
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.scenario import COMPOSITIONS, Scenario

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

    >>> batch = load_batch(Scenario(indices=(0, 1, 3, 4)))
    >>> batch.images.shape, [batch.class_names[y] for y in batch.labels]
    (torch.Size([4, 3, 32, 32]), ['cat', 'ship', 'airplane', 'frog'])
    """
    source = items(scenario)
    indices = pick(scenario, source.labels, draw=draw)
    channels = dataset_of(scenario).channels
    images = torch.stack([to_tensor(source.read(i), scenario.image_size, channels) for i in indices])
    labels = torch.tensor([source.labels[i] for i in indices])
    return GroundTruth(images, labels, names_of_classes(scenario), indices)


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
