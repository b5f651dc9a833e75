"""Settings of attacks: what is declared is accepted, everything else is refused by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepleak_core.attack.settings import assignments, changed, limits_of, setting
from deepleak_core.errors import UnsupportedScenario


@dataclass(frozen=True, kw_only=True)
class Example:
    """A setting of every kind."""

    rate: float = setting(0.5, "step size", above=0, most=10)
    weight: float = setting(0.0, "weight", least=0, most=100)
    momentum: float | None = setting(None, "momentum", least=0, most=1)
    steps: int = setting(3, "steps", least=1, most=9)
    nested: bool = setting(False, "whether it is nested")
    kind: Literal["plain", "fancy"] = setting("plain", "kind", choices=("plain", "fancy"))
    internal: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("rate", 10, 10),
        ("rate", "1e-3", 1e-3),
        ("weight", "0", 0.0),
        ("momentum", "0.9", 0.9),
        ("steps", "9", 9),
        ("steps", 1, 1),
        ("nested", "true", True),
        ("nested", "False", False),
        ("nested", True, True),
        ("kind", "fancy", "fancy"),
    ],
)
def test_values_within_the_limits_are_taken(name: str, given: Any, value: Any) -> None:
    assert changed(Example(), {name: given}) == replace(Example(), **{name: value})


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("rate", 0),
        ("rate", 10.5),
        ("rate", "fast"),
        ("rate", "nan"),
        ("rate", float("nan")),
        ("rate", "inf"),
        ("weight", -0.1),
        ("momentum", "2"),
        ("steps", 0),
        ("steps", "10"),
        ("steps", "2.5"),
        ("steps", 2.5),
        ("nested", "perhaps"),
        ("nested", 3),
        ("kind", "odd"),
        ("rate", None),
        ("rate", (1, 2)),
    ],
)
def test_other_values_are_refused_with_name_value_and_limits(name: str, given: Any) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        changed(Example(), {name: given})
    (problem,) = refusal.value.problems
    assert problem.startswith(f"{name} was {given!r};")
    limits = limits_of(Example())[name]
    bounds = [bound for bound in (limits.least, limits.above, limits.most) if bound is not None]
    assert all(f"{bound:g}" in problem for bound in bounds)
    assert all(choice in problem for choice in limits.choices)


@pytest.mark.parametrize("name", ["colour", "internal", "help", ""])
def test_names_that_are_no_setting_are_refused_and_the_known_ones_named(name: str) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        changed(Example(), {name: 1})
    (problem,) = refusal.value.problems
    assert all(known in problem for known in ("rate", "weight", "momentum", "steps", "nested", "kind"))


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        changed(Example(), {"rate": -1, "colour": "red", "steps": 0})
    assert len(refusal.value.problems) == 3


def test_nothing_changes_the_defaults() -> None:
    default = Example()
    changed(default, {"rate": 1})
    assert default == Example()
    assert changed(default, {}) == default


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_is_taken_exactly_where_it_is_within_the_limits(value: float) -> None:
    for text in (value, repr(value)):
        try:
            taken = changed(Example(), {"rate": text}).rate
        except UnsupportedScenario:
            assert not 0 < value <= 10
        else:
            assert taken == value
            assert 0 < value <= 10


def test_pairs_are_read_as_people_write_them() -> None:
    assert assignments([" l2 = 0.1", "a=b=c"], "prior") == {"l2": "0.1", "a": "b=c"}
    for text in ("l2", "=1", "l2=", "", "="):
        with pytest.raises(UnsupportedScenario, match=r"^prior was"):
            assignments([text], "prior")
