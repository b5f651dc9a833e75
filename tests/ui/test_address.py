"""Scenarios as addresses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.scenario import Scenario
from ui import address, controls


@pytest.mark.parametrize(
    "scenario",
    [
        address.WELCOME,
        Scenario(),
        Scenario(labels=("cat", "ship"), mislabel=("cat>dog",)),
        Scenario(setting=("solver=lbfgs",), prior=("l2=0.1", "total-variation=1e-05")),
    ],
)
def test_an_address_gives_its_scenario_back(scenario: Scenario) -> None:
    assert address.scenario_of(address.query_of(scenario)) == scenario


def test_an_address_of_other_parameters_opens_the_default_batch() -> None:
    assert address.scenario_of({"utm_source": "mail"}) == address.WELCOME


def test_settings_that_no_scenario_has_are_refused() -> None:
    with pytest.raises(UnsupportedScenario):
        address.scenario_of({"batch_size": "many"})


UNFIT = (
    "", "0", "-1", "nan", "inf", "1e999", "null", "[]", "{}", ">", "=", "cat>", ",", "cat,cat", "0,0", "../..", "\x00",
    "\u202e", "cuda:9", "iterations=nan", "l2=inf", "a=b", "9" * 400,
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(UNFIT),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)
SENSIBLE = {
    "dataset": ["cifar10-samples", "cifar100-samples", "imagenet-samples", "mnist-samples", "folder"],
    "indices": ["0,1,3,4", "19", "4000"],
    "labels": ["cat,ship", "cat"],
    "composition": ["same", "pair", "random"],
    "model": ["lenet64-relu", "resnet20", "strided"],
    "stage": ["late"],
    "mode": ["fedavg"],
    "attack": ["exact", "gradinversion", "dlg"],
    "label_strategy": ["verified", "true"],
    "mislabel": ["cat>dog", "cat>dog,ship>cat"],
    "prior": ["l2=0.1"],
    "setting": ["start=shared"],
}


def links() -> st.SearchStrategy[dict[str, list[str]]]:
    """Links with a few parameters, whose values are often sensible ones."""

    def values(name: str) -> st.SearchStrategy[tuple[str, list[str]]]:
        texts = st.one_of(st.sampled_from(SENSIBLE[name]), TEXTS) if name in SENSIBLE else TEXTS
        return st.tuples(st.just(name), st.lists(texts, min_size=1, max_size=2))

    names = st.sampled_from([*Scenario.model_fields, "run"])
    return st.lists(names.flatmap(values), max_size=5).map(dict)


@settings(max_examples=500)
@given(query=links())
def test_every_link_opens_a_scenario_or_is_refused_in_sentences(query: dict[str, list[str]]) -> None:
    problems: tuple[str, ...] = ()
    try:
        scenario = address.scenario_of(query)
        controls.check(scenario)
        assert address.scenario_of(address.query_of(scenario)) == scenario
    except UnsupportedScenario as error:
        problems = error.problems
    assert all(0 < len(problem) < 1000 for problem in problems)
