"""Private batches: which images are picked, and what is said where there are too few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepleak_core.data.batches import labels_of_batch, load_batch, pick
from deepleak_core.data.datasets import DATASETS
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.scenario import Scenario
from tests.data.pictures import picture, zoo

GROUPS: dict[str, Callable[[int], list[int]]] = {
    "distinct": lambda n: [1] * n,
    "pair": lambda n: [2] + [1] * (n - 2),
    "half": lambda n: [n // 2] * 2,
    "same": lambda n: [n],
}


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), min_size=40, max_size=80),
    composition=st.sampled_from(sorted(GROUPS)),
    size=st.integers(1, 3).map(lambda n: 2 * n),
    seed=st.integers(0, 2**31 - 1),
    draw=st.integers(0, 1000),
)
def test_a_composition_is_what_it_says_or_refused(
    labels: list[int], composition: str, size: int, seed: int, draw: int
) -> None:
    scenario = Scenario(composition=composition, batch_size=size, seed=seed)
    groups = GROUPS[composition](size)
    available = sorted(Counter(labels).values(), reverse=True)
    try:
        picked = pick(scenario, labels, draw=draw)
    except UnsupportedScenario:
        assert len(available) < len(groups) or any(
            have < want for have, want in zip(available, groups, strict=False)
        ), "refused though there were enough images"
        return
    assert len(set(picked)) == size
    assert sorted(Counter(labels[i] for i in picked).values(), reverse=True) == groups
    assert pick(scenario, labels, draw=draw) == picked


def test_draws_and_seeds_give_other_batches() -> None:
    labels = [i % 10 for i in range(1000)]
    for composition in ("distinct", "pair", "half", "same", "random"):
        scenario = Scenario(composition=composition)
        assert len({pick(scenario, labels, draw=draw) for draw in range(10)}) == 10
        assert len({pick(scenario.changed(seed=seed), labels) for seed in range(10)}) == 10


def test_named_images_are_taken_in_their_order_whatever_the_draw() -> None:
    assert {pick(Scenario(indices=(5, 0, 3)), range(9), draw=draw) for draw in range(5)} == {(5, 0, 3)}


def test_labels_are_classes_in_any_spelling() -> None:
    batch = load_batch(Scenario(labels=("Cat", "8", "FROG", "frog")))
    assert [batch.class_names[y] for y in batch.labels] == ["cat", "ship", "frog", "frog"]
    assert len(set(batch.indices)) == 4
    batch = load_batch(Scenario(dataset="cifar100-samples", labels=(DATASETS["cifar100"].class_names[23],)))
    assert batch.labels.tolist() == [23]


def test_a_skewed_draw_gives_what_there_is_and_the_same_again() -> None:
    for size in (1, 6, 20):  # 20 is all there is
        scenario = Scenario(composition="skewed", batch_size=size)
        batches = [load_batch(scenario, draw=draw) for draw in range(4)]
        assert all(len(set(batch.indices)) == size == len(batch.labels) for batch in batches)
        assert batches[1].indices == load_batch(scenario, draw=1).indices
    with pytest.raises(UnsupportedScenario, match=r"cannot give 21 images \(skewed draw\): it has 20"):
        load_batch(Scenario(composition="skewed", batch_size=21))


def test_a_skewed_draw_is_less_even_than_a_random_one() -> None:
    """The chance that two images of a batch share a class, on average over draws from many images of each."""
    available = [label for label in range(10) for _ in range(100)]

    def shared(composition: str) -> float:
        chances = []
        for seed in range(40):
            picked = pick(Scenario(composition=composition, batch_size=20, seed=seed), available)
            counts = np.bincount([available[i] for i in picked])
            chances.append((counts * (counts - 1)).sum() / (20 * 19))
        return float(np.mean(chances))

    assert shared("random") < 0.12  # 1 / 10
    assert 0.18 < shared("skewed") < 0.35  # (1 + a) / (1 + 10 a) = 0.25 at a = 0.5


def test_labels_are_those_of_the_batch() -> None:
    for scenario in (Scenario(indices=(7, 2)), Scenario(composition="pair"), Scenario(labels="cat,ship")):
        assert labels_of_batch(scenario) == load_batch(scenario).labels.tolist()


@pytest.mark.parametrize(
    ("dataset", "channels"), [("cifar10-samples", 3), ("mnist-samples", 1), ("fashion-mnist-samples", 1)]
)
def test_images_have_as_many_channels_as_the_data_set(dataset: str, channels: int) -> None:
    batch = load_batch(Scenario(dataset=dataset, indices=tuple(range(20))))
    assert batch.images.shape == (20, channels, 32, 32)
    assert DATASETS[dataset].channels == channels


def test_colour_images_in_a_grey_folder_become_greyscale(tmp_path: Path) -> None:
    zoo(tmp_path, "elk", "owl")
    batch = load_batch(Scenario(dataset="grey-folder", images=str(tmp_path), batch_size=2))
    assert batch.images.shape == (2, 1, 32, 32)
    assert batch.images.unique().tolist() == pytest.approx([76 / 255])  # 0.299 * 255, the luminance of red


@pytest.mark.parametrize("suffix", [".heic", ".psd", ".eps"])
def test_files_that_are_not_counted_are_named_where_images_are_missing(tmp_path: Path, suffix: str) -> None:
    zoo(tmp_path, "elk", "owl")
    (tmp_path / "yak").mkdir()
    (tmp_path / "yak" / f"photo{suffix}").write_bytes(b"")
    scenario = Scenario(dataset="folder", images=str(tmp_path), batch_size=2)
    assert len(load_batch(scenario).labels) == 2
    for wanted in ({"batch_size": 3}, {"labels": "yak"}, {"indices": "2"}, {"batch_size": 3, "composition": "random"}):
        with pytest.raises(UnsupportedScenario, match=f"yak/photo{suffix}"):
            load_batch(Scenario(dataset="folder", images=str(tmp_path), **wanted))


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "data set": ({"dataset": "emnist"}, f"dataset was 'emnist'; accepted are {', '.join(DATASETS)}."),
    "index": ({"indices": (3, 20)}, "cifar10-samples has the images 0 to 19, indices had 20; name others."),
    "class": (
        {"labels": ("cat", "unicorn")},
        "labels named 'unicorn', which is no class here; accepted are airplane, automobile, bird, cat, deer, dog, "
        "frog, horse, ship, truck or their numbers.",
    ),
    "too many of a class": (
        {"labels": ("cat",) * 9},
        "cifar10-samples has 2 images of cat, labels ask for 9; ask for fewer.",
    ),
    "too many of all": (
        {"composition": "random", "batch_size": 21},
        "cifar10-samples cannot give 21 images (random draw): it has 20; make the batch smaller.",
    ),
    "too many distinct": (
        {"batch_size": 11},
        "cifar10-samples cannot give 11 images (all different): no further class has an image left; make the batch "
        "smaller.",
    ),
    "too many of one": (
        {"composition": "same", "batch_size": 9},
        "cifar10-samples cannot give 9 images (all the same): no class has 9 images; make the batch smaller.",
    ),
}


@pytest.mark.parametrize(("values", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals_say_what_was_given_and_what_there_is(values: dict[str, Any], sentence: str) -> None:
    for load in (load_batch, labels_of_batch):
        with pytest.raises(UnsupportedScenario) as refusal:
            load(Scenario(**values))
        assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    "values",
    [
        {"indices": tuple(range(4001))},
        {"indices": tuple(range(10**15, 10**15 + 4001))},
        {"labels": tuple(f"unicorn {i}" for i in range(4001))},
        {"labels": ("unicorn" * 1000,)},
    ],
)
def test_refusals_are_short_however_long_the_list(values: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        load_batch(Scenario(**values))
    assert len(str(refusal.value)) < 1000


def test_sentences_never_carry_control_characters(tmp_path: Path) -> None:
    for name in ("\x1b[31melk", "owl\x1b]0;title\x07", "yak\u202e"):
        picture(tmp_path / name / "a.png")
    for wanted in ({"labels": "unicorn"}, {"labels": ("\x1b[31melk",) * 2}, {"labels": "\x1b[2J"}):
        with pytest.raises(UnsupportedScenario) as refusal:
            load_batch(Scenario(dataset="folder", images=str(tmp_path), **wanted))
        assert str(refusal.value).isprintable()
