"""Scenarios as addresses."""

from __future__ import annotations

import pytest

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.scenario import Scenario
from ui import address


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
