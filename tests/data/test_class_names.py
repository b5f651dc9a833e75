"""Names of classes: which class a name means, and that none is ever taken for another."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepleak_core.data.class_names import class_index, classes_named, unclear, unclear_in_list
from deepleak_core.data.datasets import DATASETS, IMAGENET_CLASSES
from deepleak_core.scenario import Scenario

names = st.text(st.sampled_from("aAbB _-.,'#+1é猫") | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(st.lists(names, min_size=1, max_size=8, unique=True))
def test_a_class_is_always_found_by_its_own_name(class_names: list[str]) -> None:
    assert [class_index(name, class_names) for name in class_names] == list(range(len(class_names)))


@given(st.lists(names, min_size=1, max_size=8, unique=True), names)
def test_a_name_means_one_class_or_is_refused(class_names: list[str], name: str) -> None:
    found = classes_named(name, class_names)
    assert class_index(name, class_names) == (found[0] if len(found) == 1 else None)
    if len(found) != 1:
        assert unclear("labels", name, class_names).isprintable()


@pytest.mark.parametrize("name", DATASETS)
def test_every_class_of_a_data_set_can_be_named(name: str) -> None:
    class_names = DATASETS[name].class_names
    for label, known in enumerate(class_names):
        assert class_index(known, class_names) == label
        assert class_index(str(label), class_names) == label
        assert class_index(known.upper().replace("_", " "), class_names) in (label, None)


@pytest.mark.parametrize(
    ("name", "class_names", "expected"),
    [
        ("SEA-LION", ("walrus", "sea_lion"), (1,)),
        (" cat ", ("cat", "dog"), (0,)),
        ("c#", ("c", "c++"), ()),
        ("C#", ("c", "c#"), (1,)),
        ("猫", ("犬", "鳥"), ()),
        ("कि", ("कु", "क"), ()),
        ("😀", ("😃", "cat"), ()),
        ("---", ("...", "cat"), ()),
        ("a.b", ("a b", "a_b", "a-b"), (0, 1, 2)),
        ("1", ("cat", "dog"), (1,)),
        ("2", ("cat", "dog"), ()),
        ("1", ("0-cat", "1-dog"), (1,)),
        ("0", ("10", "2"), ()),
        ("²", ("cat", "dog", "elk"), ()),
        ("9" * 5000, ("cat", "dog"), ()),
        ("CARDIGAN", IMAGENET_CLASSES, (264, 474)),
        ("cardigan", IMAGENET_CLASSES, (474,)),
    ],
)
def test_which_classes_a_name_can_mean(name: str, class_names: tuple[str, ...], expected: tuple[int, ...]) -> None:
    assert classes_named(name, class_names) == expected


def test_a_refused_part_of_a_name_with_a_comma_says_how_to_write_the_comma() -> None:
    names = ("tench, Tinca tinca", "shark")
    for part in ("tench", "Tinca tinca"):
        sentence = unclear_in_list("labels", part, names)
        (written,) = re.findall(r"backslash: (.*)\.$", sentence)
        assert Scenario(labels=written).labels == (names[0],)
    assert "backslash" not in unclear_in_list("labels", "whale", names)
    assert "backslash" not in unclear_in_list("labels", "whale", ("cat", "dog"))
