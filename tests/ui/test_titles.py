"""Messages speak of controls by their titles, and leave foreign text in them alone."""

from __future__ import annotations

import pytest

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.runs.limits import Limits
from deepleak_core.scenario import Scenario
from ui.titles import TITLES, in_titles


def test_every_title_is_that_of_a_field() -> None:
    assert TITLES.keys() <= Scenario.model_fields.keys()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"local_order": "known"}, "local_order"),
        ({"local_momentum": 2}, "local_momentum"),
        ({"fedavg": "averaged"}, "fedavg"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_refused_setting_is_named_as_on_the_page(values: dict, name: str) -> None:
    with pytest.raises(UnsupportedScenario) as refused:
        Scenario(**values)
    (sentence,) = map(in_titles, refused.value.problems)
    assert sentence.startswith(f'"{TITLES[name]}" ')
    assert name not in sentence


def test_a_lowered_limit_is_written_out_and_named_as_on_the_page() -> None:
    (sentence,) = Limits(iterations=100_000).lowered(Scenario(max_iterations=10**6))[1]
    said = in_titles(sentence)
    assert TITLES["max_iterations"] in said
    assert "1,000,000" in said
    assert "100,000" in said


@pytest.mark.parametrize("text", ["/data/local_lr/a.png", "'local_lr'", '"max_seconds"', "local_lr=3", "local_lr.png"])
def test_quotes_paths_and_assignments_stay_as_they_are(text: str) -> None:
    assert in_titles(f"There is no {text} here.") == f"There is no {text} here."
