"""A scenario survives JSON, URLs and processes unchanged, and says in one sentence what it does not accept."""

from __future__ import annotations

import pickle
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.scenario import COMPOSITIONS, FEDAVG_METHODS, Composition, FedAvgMethod, Scenario
from deepleak_core.text import escape, split_list

words = st.text(max_size=12)
names = st.text(st.sampled_from("ab,>\\ \t#") | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
rates = st.floats(0, 10, exclude_min=True)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Any valid scenario, built the ways people build one."""
    values: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "dataset": words.filter(lambda name: name != "folder"),
                "images": names,
                "image_size": st.integers(32, 224),
                "model": words,
                "stage": words,
                "head_bias": st.booleans(),
                "batchnorm": st.sampled_from(["eval", "train"]),
                "attack": words,
                "label_strategy": words,
                "repair_labels": st.booleans(),
                "learning_rate": rates,
                "total_variation": st.floats(0, 10),
                "restarts": st.integers(1, 16),
                "seed": st.integers(0, 2**31 - 1),
                "max_seconds": st.floats(0, 86400, exclude_min=True),
                "max_iterations": st.integers(1, 10**6),
                "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:3"]),
            },
        )
    )
    match draw(st.sampled_from(["indices", "labels", "composition", "nothing"])):
        case "indices":
            values["indices"] = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=9, unique=True))
        case "labels":
            values["labels"] = draw(st.lists(names, min_size=1, max_size=9))
        case "composition":
            values["composition"] = draw(st.sampled_from(list(COMPOSITIONS)))
            values["batch_size"] = 2 * draw(st.integers(1, 2048))
    if draw(st.booleans()):
        values["mode"] = "fedavg"
        values["local_epochs"] = draw(st.integers(1, 100))
        values["local_batch_size"] = draw(st.integers(1, 4096))
        values["local_lr"] = draw(rates)
        values["local_momentum"] = draw(st.floats(0, 0.99))
        values["local_order"] = draw(st.sampled_from(["known", "unknown"]))
        values["fedavg"] = draw(st.sampled_from(list(FEDAVG_METHODS)))
    scenario = Scenario(**values)
    return scenario.changed(wrong_labels=draw(st.integers(0, scenario.batch_size)))


@settings(deadline=None)
@given(scenarios())
def test_every_way_out_and_back_gives_an_equal_scenario(scenario: Scenario) -> None:
    assert Scenario.from_json(scenario.to_json()) == scenario
    assert Scenario.from_query(scenario.to_query()) == scenario
    assert Scenario(**scenario.to_values()) == scenario
    assert Scenario(**scenario.model_dump()) == scenario
    assert pickle.loads(pickle.dumps(scenario)) == scenario
    assert scenario.changed() == scenario


@settings(deadline=None)
@given(scenarios())
def test_the_url_carries_text_alone_and_no_defaults(scenario: Scenario) -> None:
    query = scenario.to_query()
    assert all(isinstance(text, str) for text in query.values())
    default = Scenario().model_dump(mode="json")
    same = {k for k, v in scenario.model_dump(mode="json").items() if v == default[k]}
    assert not same & query.keys()


def test_urls_read_as_people_write_them() -> None:
    assert Scenario.from_query({"indices": ["0", "1,3"], "run": "abc"}) == Scenario(indices=(0, 1, 3))
    assert Scenario.from_query({"labels": " cat, ship ", "head_bias": "false"}) == Scenario(
        labels=("cat", "ship"), head_bias=False
    )
    assert Scenario.from_query({"seed": ["1", "2"]}).seed == 2


@given(st.lists(names, min_size=1, max_size=5), st.lists(st.tuples(names, names), min_size=1, max_size=3))
def test_any_class_can_be_named_in_a_url(labels: list[str], swaps: list[tuple[str, str]]) -> None:
    """Commas, spaces, backslashes and the sign between two classes are part of a name where they are escaped."""
    pairs = [f"{escape(before, '>')}>{escape(after, '>')}" for before, after in swaps]
    scenario = Scenario(labels=labels, mislabel=pairs)
    query = scenario.to_query()
    assert Scenario.from_query(query) == scenario == Scenario.from_json(scenario.to_json())
    assert split_list(query["labels"]) == scenario.labels == tuple(labels)
    assert [split_list(pair, ">") for pair in scenario.mislabel or ()] == swaps


@pytest.mark.parametrize("indices", [list(range(4001)) * 2, "0-3," * 4001, list(range(-1, 4001))])
def test_a_refusal_repeats_only_the_start_of_a_long_list(indices: Any) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        Scenario(indices=indices)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("text", ["0-3", "0-0", "1_000", "1.0", "+1", "²", "0x1", "1e2", "9" * 40])
def test_indices_are_plain_numbers(text: str) -> None:
    with pytest.raises(UnsupportedScenario, match="such as 0,1,3,4"):
        Scenario(indices=text)


def test_the_batch_size_follows_the_images() -> None:
    assert Scenario(indices=(3, 1)).batch_size == 2
    assert Scenario(labels="cat,cat,dog").batch_size == 3
    assert Scenario(indices=(3, 1)).changed(indices=None, composition="pair").batch_size == 4


def test_a_scenario_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Scenario().seed = 1  # type: ignore[misc]


def test_choices_have_words_for_each() -> None:
    assert tuple(COMPOSITIONS) == get_args(Composition)
    assert tuple(FEDAVG_METHODS) == get_args(FedAvgMethod)


def test_seeds_differ_by_purpose_and_by_seed() -> None:
    seeds = {Scenario(seed=seed).seed_for(purpose) for seed in range(20) for purpose in ("model", "batch", "attack")}
    assert len(seeds) == 60


REFUSALS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a word that is no choice": (
        {"mode": "fedprox"},
        ["mode was 'fedprox'; accepted are fedsgd, fedavg."],
    ),
    "an optional word that is no choice": (
        {"composition": "triple"},
        ["composition was 'triple'; accepted are distinct, pair, half, same, random, skewed."],
    ),
    "a number out of range": (
        {"image_size": 16},
        ["image_size was 16; accepted is a number from 32 to 224."],
    ),
    "a number at an open end": (
        {"mode": "fedavg", "local_lr": 0.0},
        ["local_lr was 0.0; accepted is a number above 0 to 10."],
    ),
    "not a number": (
        {"total_variation": float("nan")},
        ["total_variation was nan; accepted is a number from 0 to 10."],
    ),
    "a word for a number": (
        {"batch_size": "four"},
        ["batch_size was 'four'; accepted are whole numbers."],
    ),
    "a name that is no setting": (
        {"colour": "red"},
        [f"'colour' is no setting of a scenario; accepted are {', '.join(Scenario.model_fields)}."],
    ),
    "a device": (
        {"device": "tpu"},
        ["device was 'tpu'; accepted are auto, cpu, cuda and cuda:N."],
    ),
    "a device of endless digits": (
        {"device": "cuda:" + "9" * 5000},
        [f"device was 'cuda:{'9' * 71}...; accepted are auto, cpu, cuda and cuda:N."],
    ),
    "the same image twice": (
        {"indices": (1, 1)},
        [
            "indices were 1,1 with 1 more than once; accepted are different numbers from 0 up, such as 0,1,3,4: "
            "name each image once."
        ],
    ),
    "a negative index": (
        {"indices": (-1,)},
        ["indices were -1; accepted are different numbers from 0 up, such as 0,1,3,4: name each image once."],
    ),
    "no image": ({"indices": ()}, ["indices was empty; name at least one, or leave it out."]),
    "no label": ({"labels": " , "}, ["labels was empty; name at least one, or leave it out."]),
    "a range of indices": (
        {"indices": "0-3"},
        ["indices were 0-3; accepted are different numbers from 0 up, such as 0,1,3,4: name each image once."],
    ),
    "indices and labels": (
        {"indices": (1,), "labels": ("cat",)},
        ["Both indices and labels were given; give one of them."],
    ),
    "a batch size beside a list": (
        {"indices": (1, 2), "batch_size": 3},
        ["batch_size was 3 but 2 images were named; leave batch_size out, or name as many images."],
    ),
    "a composition beside a list": (
        {"labels": ("cat", "dog"), "composition": "pair"},
        ["composition 'pair' and a list of images were both given; give one of them."],
    ),
    "a pair of one": (
        {"composition": "pair", "batch_size": 1},
        ["composition 'pair' needs a batch of at least 2; make batch_size larger."],
    ),
    "half of an odd batch": (
        {"composition": "half", "batch_size": 5},
        ["composition 'half' needs an even batch, batch_size was 5; add or drop one."],
    ),
    "more wrong labels than labels": (
        {"wrong_labels": 5},
        ["wrong_labels was 5, the batch has 4 images; at most all of them can be wrong."],
    ),
    "wrong labels by number and by name": (
        {"wrong_labels": 1, "mislabel": "cat>dog"},
        ["Both wrong_labels and mislabel were given; give one of them."],
    ),
    "no pair of classes": (
        {"mislabel": ("cat>dog", "cat")},
        ["mislabel was 'cat'; accepted are pairs of classes like cat>dog."],
    ),
    "local training without FedAvg": (
        {"local_lr": 0.1, "fedavg": "simulated"},
        [
            "local_lr applies to mode 'fedavg' only; leave it out or switch the mode.",
            "fedavg applies to mode 'fedavg' only; leave it out or switch the mode.",
        ],
    ),
    "a folder without a name": (
        {"dataset": "folder"},
        ["dataset 'folder' needs images, a folder of class folders; name one."],
    ),
    "several things at once": (
        {"mode": "x", "seed": -1},
        ["mode was 'x'; accepted are fedsgd, fedavg.", "seed was -1; accepted is a number from 0 to 2147483647."],
    ),
    "something very long": (
        {"device": ["x" * 200]},
        [f"device was ['{'x' * 75}...; input should be a valid string."],
    ),
}


@pytest.mark.parametrize(("values", "problems"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals_say_what_was_given_and_what_is_accepted(values: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        Scenario(**values)
    assert list(refusal.value.problems) == problems
    assert str(refusal.value) == " ".join(problems)
    sent = pickle.loads(pickle.dumps(refusal.value))  # a worker's refusal reaches the app
    assert sent.problems == refusal.value.problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "scenario was 'nonsense'; invalid JSON: expected ident at line 1 column 2."),
        ("[]", "scenario was []; input should be an object."),
        ('{"seed": -1}', "seed was -1; accepted is a number from 0 to 2147483647."),
        ('{"wrong_labels": 9}', "wrong_labels was 9, the batch has 4 images; at most all of them can be wrong."),
    ],
)
def test_texts_that_are_no_scenario(text: str, problem: str) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        Scenario.from_json(text)
    assert refusal.value.problems == (problem,)


def test_an_empty_folder_name_is_refused() -> None:
    with pytest.raises(UnsupportedScenario, match="images"):
        Scenario(images="")
