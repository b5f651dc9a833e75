"""Labels changed on purpose: as many as asked for, by chance or by name, or a refusal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.labels.wrong_labels import WrongLabels, falsify, instead_of, swap, swaps
from deepleak_core.runs.checks import problems_of_wrong_labels as problems
from deepleak_core.scenario import Scenario
from deepleak_core.text import swap_text
from tests.data.pictures import zoo


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(6, 9), st.integers(0, 9), st.data())
def test_as_many_labels_are_wrong_as_asked_for(labels: list[int], classes: int, seed: int, data: st.DataObject) -> None:
    labels.sort()
    wrong = data.draw(st.integers(0, len(labels)))
    changed, places = falsify(labels, wrong, classes, seed=seed)
    assert changed == sorted(changed)
    assert len(places) == wrong
    assert (Counter(labels) - Counter(changed)).total() == wrong, "no class both loses and gains a label"
    assert falsify(labels, wrong, classes, seed=seed) == (changed, places)


def test_as_few_as_possible_are_right_where_every_class_loses_a_label() -> None:
    for classes in range(2, 8):
        changed, places = falsify(range(classes), classes, classes)
        assert len(set(changed)) == 1
        assert len(places) == classes - 1


def test_one_class_has_no_wrong_label() -> None:
    with pytest.raises(UnsupportedScenario, match="at least two classes"):
        falsify([0, 0], 1, 1)


@given(st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=5, unique=True))
def test_any_pair_of_classes_can_be_written(class_names: list[str]) -> None:
    assert swaps([swap_text(class_names[0], class_names[1])], class_names) == [(0, 1)]


def test_labels_are_replaced_by_name() -> None:
    class_names = ("bird", "cat", "dog")
    assert swap([0, 1, 1], swaps(["cat>dog"], class_names), class_names) == ([0, 1, 2], (2,))
    assert instead_of([0, 1, 1], [0, 1, 2], class_names) == "dog instead of cat"


CIFAR = Scenario(indices=(0, 1, 3, 4))  # cat, ship, airplane, frog


@pytest.mark.parametrize(
    ("mislabel", "words"),
    [
        (("dog>cat",), ["no such label; accepted are: airplane, cat, frog, ship"]),
        (("cat>dog", "cat>horse"), ["no further such label"]),
        (("cat>unicorn",), ["'unicorn', which is no class here"]),
        (("yeti>unicorn",), ["'yeti'", "'unicorn'"]),
        (("cat>dog", "dog>cat"), ["on both sides"]),
        (("cat>cat",), ["on both sides"]),
    ],
)
def test_what_cannot_be_replaced_is_known_before_the_attack(mislabel: tuple[str, ...], words: list[str]) -> None:
    found = problems(CIFAR.changed(mislabel=mislabel))
    assert len(found) == len(words)
    assert all(some in sentence for some, sentence in zip(words, found, strict=True))


def test_what_can_be_replaced_has_no_problems(tmp_path: Path) -> None:
    assert problems(CIFAR) == []
    assert problems(CIFAR.changed(mislabel=("cat>dog", "ship>horse"))) == []
    zoo(tmp_path, "a>b", "a", "b,c")
    own = Scenario(dataset="folder", images=str(tmp_path), labels=("a>b",), mislabel=(swap_text("a>b", "b,c"),))
    assert problems(own) == problems(Scenario.from_query(own.to_query())) == []


def test_a_data_set_that_cannot_be_read_has_no_problems_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path))
    assert problems(Scenario(dataset="cifar10", mislabel="dog>cat")) == []
    assert problems(Scenario(dataset="cifar10", mislabel="dog>unicorn"))
    assert problems(Scenario(dataset="folder", images=str(tmp_path / "gone"), mislabel="dog>cat")) == []


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9), st.integers(0, 9), st.integers(0, 2**31))
def test_falsifying_replaces_as_many_labels_as_asked(believed: list[int], wrong: int, seed: int) -> None:
    wrong = min(wrong, len(believed))
    changed, places = falsify(believed, wrong, 7, seed=seed)
    assert changed == sorted(changed)
    assert len(changed) == len(believed)
    assert (changed != sorted(believed)) == (wrong > 0), "a wrong label always shows"
    untouched = Counter(believed) & Counter(changed)
    if len(set(believed)) < 7:
        assert len(set(places)) == wrong == len(believed) - untouched.total()
    assert all(0 <= label < 7 for label in changed)
    assert falsify(believed, wrong, 7, seed=seed) == (changed, places)
    kept = Counter(label for place, label in enumerate(changed) if place not in places)
    assert kept <= Counter(believed), "a label that is not marked as wrong is none of the believed ones"
    fresh = [changed[place] for place in places]
    if len(set(believed)) + wrong <= 7:
        assert not set(fresh) & set(believed), "a class of the batch was taken though others were free"
        assert len(set(fresh)) == wrong


def test_any_label_may_be_the_wrong_one() -> None:
    missing = [{0, 1, 2, 3} - set(falsify([0, 1, 2, 3], 1, 10, seed=seed)[0]) for seed in range(40)]
    assert {label for labels in missing for label in labels} == {0, 1, 2, 3}


def test_where_no_such_label_was_inferred_the_attacker_is_named() -> None:
    names = ("bird", "cat", "dog")
    with pytest.raises(UnsupportedScenario, match="the attacker has inferred no such label; accepted are: bird, dog"):
        WrongLabels(swaps=("cat>dog",)).applied([0, 0, 2], names, seed=0)
