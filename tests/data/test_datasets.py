"""The registry of data sets, and the samples that come with the installation."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepleak_core.data import datasets, samples
from deepleak_core.data.batches import load_batch
from deepleak_core.data.datasets import DATASETS
from deepleak_core.errors import DatasetUnavailable
from deepleak_core.scenario import FOLDER_DATASETS, Scenario

ROOT = Path(__file__).parent.parent.parent
BUNDLED = [name for name, dataset in DATASETS.items() if dataset.bundled]


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_samples_are_twenty_different_real_images(name: str) -> None:
    batch = load_batch(Scenario(dataset=name, indices=tuple(range(20))))
    assert batch.images.shape == (20, DATASETS[name].channels, 32, 32)
    assert batch.images.min() >= 0
    assert batch.images.max() <= 1
    assert len({image.numpy().tobytes() for image in batch.images}) == 20
    assert all(image.std() > 0.05 for image in batch.images)
    assert all(0 <= y < len(batch.class_names) for y in batch.labels)


def test_samples_have_their_own_names() -> None:
    batch = load_batch(Scenario(indices=(0, 1, 3, 4)))
    assert [batch.class_names[y] for y in batch.labels] == ["cat", "ship", "airplane", "frog"]
    frogs = load_batch(Scenario(indices=(4, 5, 7, 19)))
    assert {frogs.class_names[y] for y in frogs.labels} == {"frog"}


def test_the_size_is_the_scenarios() -> None:
    assert load_batch(Scenario(dataset="imagenet-samples", image_size=224, batch_size=1)).images.shape[2:] == (224, 224)


def test_cifar_pixels_arrive_unchanged() -> None:
    """At its own resolution an image is its file, value by value: pixel-exactness means something."""
    path, _ = samples.sample_files("cifar10")[3]
    images = load_batch(Scenario(indices=(3,))).images
    assert np.array_equal((images[0].permute(1, 2, 0) * 255).numpy(), np.asarray(Image.open(path)).astype(np.float32))


def test_without_the_package_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    samples.sample_files.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetUnavailable, match="pip install foolbox"):
        load_batch(Scenario())
    samples.sample_files.cache_clear()


@pytest.mark.parametrize("name", DATASETS)
def test_entries_agree_with_themselves(name: str) -> None:
    dataset = DATASETS[name]
    mean, deviation = dataset.statistics
    assert len(mean) == len(deviation) == dataset.channels
    assert dataset.channels in (1, 3)
    assert all(0 < value < 1 for value in (*mean, *deviation))
    assert len(set(dataset.class_names)) == len(dataset.class_names)
    assert (dataset.class_names == ()) == (name in FOLDER_DATASETS)
    same_classes = {other.class_names for other in DATASETS.values() if other.vocabulary == dataset.vocabulary}
    assert len(same_classes) == 1, "a vocabulary is one set of classes"
    assert dataset.bundled or dataset.download or name in FOLDER_DATASETS


def test_every_download_has_samples_that_work_offline() -> None:
    for name, dataset in DATASETS.items():
        if dataset.download:
            assert DATASETS[f"{name}-samples"].bundled


def test_the_guide_to_adding_a_data_set_can_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "adding_a_data_set.md").read_text()
    monkeypatch.setattr(datasets, "DATASETS", DATASETS.copy())
    function, line = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[:2]
    scope = vars(datasets).copy()
    exec(compile(function, "guide", "exec"), scope)
    added = eval(f"{{{line}}}", scope)
    datasets.DATASETS.update(added)
    (name,) = added
    batch = load_batch(Scenario(dataset=name, batch_size=3))
    assert batch.images.shape == (3, added[name].channels, 32, 32)
    assert len(set(batch.labels.tolist())) == 3
